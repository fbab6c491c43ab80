package worker

import (
	"maps"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// onReportRequest answers with the gauges and, if requested, every backend and every
// waiting client.
func (w *worker) onReportRequest(m *ipc.ReportRequest) {
	w.flushGone() // so that the report agrees with the supervisor's own count of clients
	w.send(w.report(m.ID))
	x := &reporting{w: w, id: m.ID, clients: m.Clients}
	if m.Sessions {
		x.backends = slices.Collect(maps.Values(w.backends))
	}
	if m.Sessions || m.Clients {
		x.left = slices.Collect(maps.Values(w.clients))
	}
	x.page()
}

const (
	// reportPage is how many backends and clients a worker reports in one turn, so that a long
	// list delays nobody.
	reportPage = 256
	// reportRoom is how many messages may wait for the supervisor when the next page is sent.
	reportRoom = queueLimit / 8
	// reportPause is how long a page waits for room.
	reportPause = 5 * time.Millisecond
)

// reporting is a report in progress: backends and clients of the turn in which it was asked for.
type reporting struct {
	w        *worker
	id       uint64
	clients  bool // report every client, not only those that wait
	backends []*backend
	left     []*client
}

// page reports as many as one turn may, and leaves the rest to the next turn.
func (x *reporting) page() {
	w := x.w
	if w.exit != 0 {
		return
	}
	if w.out.Len() > reportRoom {
		w.loop.After(reportPause, x.page)
		return
	}
	for range reportPage {
		switch n, m := len(x.backends), len(x.left); {
		case n > 0:
			x.reportBackend(x.backends[n-1])
			x.backends = x.backends[:n-1]
		case m > 0:
			x.reportClient(x.left[m-1])
			x.left = x.left[:m-1]
		default:
			w.send(&ipc.ReportEnd{ID: x.id})
			return
		}
	}
	w.loop.Post(x.page)
}

// reportBackend reports a backend unless it is gone meanwhile.
func (x *reporting) reportBackend(b *backend) {
	if b.state != backendClosed {
		x.w.send(x.w.reportBackend(x.id, b))
	}
}

// reportClient reports a client likewise.
func (x *reporting) reportClient(c *client) {
	s := c.session
	switch {
	case x.w.clients[c.id] != c:
	case x.clients:
		x.w.send(x.w.reportClient(x.id, c))
	case s != nil && s.backend == nil && s.state == sessionWaiting:
		x.w.send(x.w.reportWaiting(x.id, s))
	}
}

// reportClient describes a client. One that hasn't logged in yet has no names.
func (w *worker) reportClient(id uint64, c *client) *ipc.ReportSession {
	r := &ipc.ReportSession{ID: id, ClientID: c.id, Server: -1, State: "login", Start: c.start.Unix(), Client: c.addr}
	s := c.session
	if s == nil {
		return r
	}
	r.Since, r.Database, r.User, r.AppName = int64(c.since), s.login.requested, s.login.user, s.login.application()
	r.State = s.doing()
	if b := s.backend; b != nil {
		r.Lease, r.Server, r.PID = b.Lease, b.server, b.pid
	}
	return r
}

// doing says in one word what a session is doing.
func (s *session) doing() string {
	switch s.state {
	case sessionWaiting:
		return "waiting"
	case sessionAdapting, sessionRestoring:
		return "active"
	case sessionActive, sessionMoving:
	case sessionLeaving, sessionLingering, sessionGone:
		return "leaving"
	}
	if s.backend == nil {
		return "idle"
	}
	switch s.talk.Stand() {
	case relay.Busy:
		return "active"
	case relay.InBlock:
		return "in transaction"
	case relay.Resting, relay.Parting:
	}
	return "idle"
}

// onKick disconnects a client, whatever it is doing.
func (w *worker) onKick(m *ipc.Kick) {
	c := w.clients[m.Client]
	w.send(&ipc.Kicked{ID: m.ID, Found: c != nil})
	if c != nil {
		w.terminate(c)
	}
}

func (w *worker) report(id uint64) *ipc.Report {
	return &ipc.Report{ID: id, Gauges: w.gauges(), Traffic: w.stats.traffic()}
}

func (w *worker) reportBackend(id uint64, b *backend) *ipc.ReportSession {
	r := &ipc.ReportSession{
		ID: id, Lease: b.Lease, Server: b.server, State: b.state.String(), Start: w.born.Add(b.Born).Unix(),
		Since: b.since.Unix(), PID: b.pid, FD: b.conn.FD(), Database: b.Pool.Key.Database, User: b.Pool.Key.User,
	}
	if b.Flushed && b.state == backendAttached {
		r.State = "gracefully"
	}
	if s := b.session; s != nil {
		r.Since, r.AppName, r.Client, r.ClientID = int64(s.c.since), s.login.application(), s.c.addr, s.c.id
	}
	return r
}

func (w *worker) reportWaiting(id uint64, s *session) *ipc.ReportSession {
	r := &ipc.ReportSession{
		ID: id, Server: -1, State: "waiting", Start: s.c.start.Unix(), Since: int64(s.c.since), FD: s.client.FD(),
		Database: s.login.database, User: s.login.user, AppName: s.login.application(), Client: s.c.addr, ClientID: s.c.id,
	}
	if wt := s.waiter; wt != nil {
		r.WaitingSince = w.born.Add(wt.Since).Unix()
	}
	return r
}
