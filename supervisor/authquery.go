package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// With auth_query, workers ask here for the stored passwords of users without an entry. The
// prober looks them up at a server, so that neither a worker nor this process reads what
// servers send, and no worker has the credential of the user that may ask.

// lookUpWarnEvery bounds how often a failure of auth_query is logged.
const lookUpWarnEvery = 5 * time.Second

// lookUps are the requests of workers for stored passwords.
type lookUps struct {
	// asked has the look-ups that run or wait. A worker has ipc.MaxStoredRequests at most.
	asked    map[lookUpOf]*lookUp
	line     line
	paused   map[*lookUp]bool // wait for the end of a pause
	warnedAt time.Duration    // 0 for never
}

// lookUpOf is what a look-up asks about. The database is empty if auth_query asks in one
// database for all.
type lookUpOf struct {
	user, database string
	gen            uint64 // of the configuration that it asks with
}

// lookUp is one look-up, and the requests that wait for it.
type lookUp struct {
	lookUpOf
	asks  []storedAsk
	until time.Duration // the latest of the requests
	// grown says that until has grown, so that servers which were asked had less time than
	// there is.
	grown bool
}

// storedAsk is a request of a worker.
type storedAsk struct {
	c     *child
	m     *ipc.StoredRequest
	until time.Duration
}

var (
	errLookUpLate = errors.New("there was no answer in time")
	errChanged    = errors.New("the configuration has changed")
	errNotAsked   = errors.New("it may not be asked any more")
	errNoLookUp   = errors.New("there is no server that can be asked")
)

// claimOfStored checks a StoredRequest.
func (s *supervisor) claimOfStored(c *child, m *ipc.StoredRequest) string {
	switch {
	case c.stored >= ipc.MaxStoredRequests:
		return "it asks for more stored passwords than a worker may at a time"
	case len(m.User)+len(m.Database) > ipc.MaxKey:
		return "it asks for the stored password of a name that is too long"
	case m.TimeoutMS < 0:
		return "it asks for a stored password within less than no time"
	}
	return ""
}

// refusesStored returns why a request is refused, nil for no reason. A worker asks for
// nobody whom it can authenticate by itself; but the request and a new configuration may
// have crossed each other.
func (s *supervisor) refusesStored(m *ipc.StoredRequest) error {
	own := func(list []config.Credential) bool {
		return slices.ContainsFunc(list, func(u config.Credential) bool { return u.Name == m.User })
	}
	switch {
	case !s.cfg.AuthQuery, (m.Database != "") != (s.cfg.AuthQueryDatabase == config.ClientsDatabase):
		return errChanged
	case own(s.cfg.Users), s.cfg.Superuser != nil && s.cfg.Superuser.Name == m.User:
		return errors.New("the user has an entry")
	}
	return nil
}

func (s *supervisor) onStoredRequest(c *child, m *ipc.StoredRequest) {
	if wrong := s.claimOfStored(c, m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	c.stored++
	limit := min(m.TimeoutMS, s.cfg.AuthenticationTimeout.Milliseconds())
	s.askStored(storedAsk{c, m, s.env.now() + time.Duration(limit)*time.Millisecond})
}

// askStored joins a request to the look-up of the same user, or begins one.
func (s *supervisor) askStored(a storedAsk) {
	if err := s.refusesStored(a.m); err != nil {
		s.answerStored(a, "", err)
		return
	}
	x := &s.service.lookUps
	of := lookUpOf{a.m.User, a.m.Database, s.gen}
	if l := x.asked[of]; l != nil {
		l.grown = l.grown || a.until > l.until
		l.until = max(l.until, a.until)
		l.asks = append(l.asks, a)
		return
	}
	l := &lookUp{lookUpOf: of, until: a.until, asks: []storedAsk{a}}
	if x.asked == nil {
		x.asked = map[lookUpOf]*lookUp{}
	}
	x.asked[of] = l
	join := x.line.join
	if a.m.Known { // made-up names must not hold up users
		join = x.line.joinFirst
	}
	join(s.cfg.AuthQueryConnections, func() { s.lookUp(l) })
}

func (s *supervisor) answerStored(a storedAsk, stored ipc.Secret, err error) {
	a.c.stored--
	if a.c.ending() {
		return
	}
	m := &ipc.StoredAnswer{ID: a.m.ID, Stored: stored}
	if err != nil {
		m.Stored, m.Error = "", err.Error()
	}
	s.send(a.c, m)
}

// lookUpPaused reports whether a look-up waits for the end of a pause: its server may be down meanwhile, and its session
// would be in a database in which none may be left.
func (s *supervisor) lookUpPaused(l *lookUp) bool {
	database := l.database
	if database == "" {
		database = s.cfg.AuthQueryDatabase
	}
	return s.clients.pauses.holds(pool.Key{Database: database})
}

// lookUpLater has a look-up wait for the end of a pause.
func (s *supervisor) lookUpLater(l *lookUp) {
	x := &s.service.lookUps
	if x.paused == nil {
		x.paused = map[*lookUp]bool{}
	}
	x.paused[l] = true
	s.after(max(l.until-s.env.now(), 0), func() { s.lookUpNow(l) })
}

// lookUpNow goes on with a look-up that has waited for the end of a pause, or as long as it may.
func (s *supervisor) lookUpNow(l *lookUp) {
	if s.service.lookUps.paused[l] {
		delete(s.service.lookUps.paused, l)
		s.lookUp(l)
	}
}

// lookUp asks the servers in turn. One that a failover has just ended may not be asked.
func (s *supervisor) lookUp(l *lookUp) {
	if s.env.now() >= l.until {
		s.lookedUp(l, "", errLookUpLate)
		return
	}
	s.lookUpAt(l, s.lookUpServers(), errNoLookUp)
}

// lookUpServers returns the servers that can be asked: the primary, and then the others that
// may have its roles.
func (s *supervisor) lookUpServers() []int {
	if !s.servers.published {
		return nil
	}
	snap := s.servers.snapshot
	var list []int
	if snap.Primary >= 0 && !s.fenced(snap.Epoch) {
		list = append(list, snap.Primary)
	}
	for i, v := range snap.Servers {
		if s.cfg.Slot(i) != nil && i != snap.Primary && (v.State == failover.Replica || v.State == failover.NotInit || v.State == failover.NotInitPrimary) {
			list = append(list, i)
		}
	}
	return slices.DeleteFunc(list, func(i int) bool { return len(s.addressesOf(i)) == 0 })
}

// lookUpAt asks the first of servers, and if that fails the next one. failed is why the one
// before has failed.
func (s *supervisor) lookUpAt(l *lookUp, servers []int, failed error) {
	left := l.until - s.env.now()
	switch {
	case left > 0 && l.gen != s.gen:
		s.lookedUp(l, "", errChanged)
		return
	case left > 0 && s.lookUpPaused(l):
		s.lookUpLater(l)
		return
	case len(servers) > 0 && left > 0:
	case left > 0 && l.grown:
		l.grown = false
		s.lookUpAt(l, s.lookUpServers(), failed)
		return
	case s.cfg.DecidesFailover() && left > s.cfg.ConnectionRetryDelay:
		s.after(s.cfg.ConnectionRetryDelay, func() { s.lookUpAt(l, s.lookUpServers(), failed) })
		return
	default:
		s.lookedUp(l, "", failed)
		return
	}
	server := servers[0]
	lookAround(s, server, left/time.Duration(len(servers)),
		func(id uint64, t ipc.Target) ipc.Message { return s.lookUpRequest(id, t, l) },
		func(m *ipc.LookUpDone) string { return m.Error },
		func(m *ipc.LookUpDone, err error) {
			if err == nil && len(m.Stored) > ipc.MaxStored {
				err = errors.New("more than a stored password")
			}
			if err != nil {
				err = fmt.Errorf("server %s: %w", s.serverName(server), err)
			}
			switch {
			case err == nil:
				s.lookedUp(l, m.Stored, nil)
			case m != nil && m.NoDatabase && l.database != "": // a client's invention is no reason to ask again
				s.lookedUp(l, "", err)
			default:
				s.lookUpAt(l, servers[1:], err)
			}
		})
}

func (s *supervisor) lookUpRequest(id uint64, t ipc.Target, l *lookUp) ipc.Message {
	c := s.cfg
	login := ipc.Login{Database: c.AuthQueryDatabase}
	if u := c.AuthQueryCredential(); u != nil {
		login.User, login.Password = u.Name, ipc.Secret(u.Password.Reveal())
	}
	if login.Database == config.ClientsDatabase {
		login.Database = l.database
	}
	t.Logins = []ipc.Login{login}
	return &ipc.LookUpRequest{ID: id, Target: t, Statement: c.AuthQueryStatement, User: l.user, Keep: c.AuthQueryConnections}
}

// lookedUp ends a look-up and begins the next one.
func (s *supervisor) lookedUp(l *lookUp, stored ipc.Secret, err error) {
	x := &s.service.lookUps
	delete(x.asked, l.lookUpOf)
	x.line.leave()
	if l.gen != s.gen { // it may have asked by another statement
		for _, a := range l.asks {
			s.askStored(a)
		}
		x.line.advance(s.cfg.AuthQueryConnections)
		return
	}
	if now := s.env.now(); err != nil && (x.warnedAt == 0 || now-x.warnedAt >= lookUpWarnEvery) {
		x.warnedAt = max(now, 1)
		s.log.Warn("auth_query fails, so users without an entry can't log in", "user", l.user, "error", err)
	}
	for _, a := range l.asks {
		s.answerStored(a, stored, err)
	}
	x.line.advance(s.cfg.AuthQueryConnections)
}

// mayLookUp returns an error if a look must not be sent, because its server may not be asked
// for stored passwords any more: a fence, or another state, has come since it was chosen.
func (s *supervisor) mayLookUp(request ipc.Message) error {
	m, ok := request.(*ipc.LookUpRequest)
	if ok && (!slices.Contains(s.lookUpServers(), m.Target.Server) || s.clients.pauses.holds(pool.Key{Database: m.Target.Logins[0].Database})) {
		return errNotAsked
	}
	return nil
}

// stopAllLookUps closes the connections of look-ups to all servers, because a pause has begun. Those that are still allowed
// connect again.
func (s *supervisor) stopAllLookUps() {
	p := s.servers.prober.end
	if p == nil || !p.up || !s.cfg.AuthQuery {
		return
	}
	for i := range s.cfg.InSlots() {
		s.sendAide(p, &ipc.LookUpStop{Server: i})
	}
}

// stopLookUps closes the connections of look-ups to a server that must not be reached any
// more. Nobody waits for that: their sessions are read-only. mayLookUp keeps new ones away.
func (s *supervisor) stopLookUps(epoch uint64) {
	snap, p := s.servers.snapshot, s.servers.prober.end
	if p != nil && p.up && snap.Epoch <= epoch && snap.Primary >= 0 {
		s.sendAide(p, &ipc.LookUpStop{Server: snap.Primary})
	}
}
