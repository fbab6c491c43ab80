package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// How many clients may be in: max_clients, of which reserved_connections are for admins, and the
// limits by user and by database. Only the supervisor knows all clients, and only a worker
// reads who a client is. So a worker asks with an AdmitRequest: before it authenticates a
// client, if NewClient says so, and afterwards, if there are limits by name.

const (
	// leaveGrace is how long a client over a limit waits before it is refused, because a
	// client that has left is reported a moment later.
	leaveGrace = 100 * time.Millisecond
	// maxPending is how many clients may wait for their refusal in workers. A worker reads the
	// start-up packet first, so that an encrypted connection can be told, too, and cancel
	// requests get through. The supervisor itself refuses further clients.
	maxPending = 256
	// awayEvery bounds how often refusals of clients are logged.
	awayEvery = 5 * time.Second
)

// clientRefusal is why a client can't come in.
type clientRefusal struct {
	refusal pgwire.Refusal
	words   []string
	// passing says that a client that is about to leave may make room.
	passing bool
}

// turnedAway is what the log has to say about refused clients.
type turnedAway struct {
	awayAt time.Duration // when it said so last, 0 for never
	away   int           // how many since then
}

// admitted returns how many clients are in.
func (s *supervisor) admitted() int { return s.clients.total - len(s.clients.census.pending) }

// tooMany reports whether a new client is refused without being read.
func (s *supervisor) tooMany() bool {
	m := s.cfg.MaxClients
	return m > 0 && s.clients.total+len(s.clients.waiting) >= m+maxPending
}

// mustAsk reports whether the next client has to ask before it is authenticated.
func (s *supervisor) mustAsk() bool {
	m := s.cfg.MaxClients
	return m > 0 && s.admitted() >= m-s.cfg.ReservedConnections || s.clients.disabled.any()
}

// isAdmin reports whether a user may use the reserve.
func (s *supervisor) isAdmin(user string) bool {
	return s.cfg.ReservedConnections > 0 &&
		slices.ContainsFunc(s.cfg.Admins, func(a config.Credential) bool { return a.Name == user })
}

func (s *supervisor) onAdmitRequest(c *child, m *ipc.AdmitRequest) {
	if wrong := s.claimOfAdmit(c, m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	why := s.admit(m)
	if why == nil || !why.passing {
		s.answerAdmit(c, m, why)
		return
	}
	s.clients.asked++
	s.after(leaveGrace, func() {
		s.clients.asked--
		if !c.ending() && s.claimOfAdmit(c, m) == "" { // it may have left, or been counted meanwhile
			s.answerAdmit(c, m, s.admit(m))
		}
	})
}

// answerAdmit sends the answer. why is nil if the client is let in.
func (s *supervisor) answerAdmit(c *child, m *ipc.AdmitRequest, why *clientRefusal) {
	answer := &ipc.AdmitAnswer{Client: m.Client}
	if why != nil {
		answer.Refusal, answer.Words = uint8(why.refusal), why.words
		s.turnAway(why.refusal.WithWords(why.words))
	}
	s.send(c, answer)
}

// claimOfAdmit checks an AdmitRequest. A worker asks about its own clients, and counts each
// once.
func (s *supervisor) claimOfAdmit(c *child, m *ipc.AdmitRequest) string {
	_, counted := s.clients.census.named[m.Client]
	switch {
	case !c.clients[m.Client]:
		return "it asks for a client that it doesn't have"
	case counted:
		return "it counts a client twice"
	case len(m.User)+len(m.Database) > ipc.MaxKey:
		return fmt.Sprintf("a client's names of %d bytes", len(m.User)+len(m.Database))
	}
	return ""
}

// admit lets a client in, or returns why not.
func (s *supervisor) admit(m *ipc.AdmitRequest) *clientRefusal {
	x := &s.clients.census
	if s.clients.disabled.is(m.Database) {
		return &clientRefusal{refusal: pgwire.RefusalDisabled, words: []string{m.Database}}
	}
	if x.pending[m.Client] {
		if why := s.noPlace(m.User); why != nil {
			return why
		}
		delete(x.pending, m.Client)
	}
	if !m.Count {
		return nil
	}
	if why := s.nameFull(m); why != nil {
		return why
	}
	x.count(m.Client, clientNames{m.User, m.Database})
	return nil
}

// noPlace returns why a pending client can't come in, or nil.
func (s *supervisor) noPlace(user string) *clientRefusal {
	most, in := s.cfg.MaxClients, s.admitted()
	switch {
	case most == 0 || in < most-s.cfg.ReservedConnections || in < most && s.isAdmin(user):
		return nil
	case in < most:
		return &clientRefusal{refusal: pgwire.RefusalReserved, passing: true}
	}
	return &clientRefusal{refusal: pgwire.RefusalTooManyClients, passing: true}
}

// nameFull returns why the user or database of a client lets no further client in, or nil.
func (s *supervisor) nameFull(m *ipc.AdmitRequest) *clientRefusal {
	x := &s.clients.census
	if most := s.cfg.MaxClientsPerUser; most > 0 && x.users[m.User] >= most {
		return &clientRefusal{pgwire.RefusalUserClients, []string{m.User}, true}
	}
	if most := s.cfg.MaxClientsPerDatabase; most > 0 && x.databases[m.Database] >= most {
		return &clientRefusal{pgwire.RefusalDatabaseClients, []string{m.Database}, true}
	}
	return nil
}

// turnAway logs a refusal, at most once every few seconds.
func (s *supervisor) turnAway(why error) {
	x, now := &s.clients.turnedAway, s.env.now()
	x.away++
	if x.awayAt != 0 && now-x.awayAt < awayEvery {
		return
	}
	s.log.Warn("clients are refused", "reason", why, "refused", x.away, "clients", s.admitted(), "max_clients", s.cfg.MaxClients)
	x.awayAt, x.away = max(now, 1), 0
}
