package worker

import (
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// onReportRequest answers with the gauges and, if requested, every backend and every
// waiting client.
func (w *worker) onReportRequest(m *ipc.ReportRequest) {
	w.flushGone() // so that the report agrees with the supervisor's own count of clients
	w.send(w.report(m.ID))
	if m.Sessions {
		for _, b := range w.backends {
			w.send(w.reportBackend(m.ID, b))
		}
		for _, c := range w.clients {
			if s := c.session; s != nil && s.backend == nil && s.state == sessionWaiting {
				w.send(w.reportWaiting(m.ID, s))
			}
		}
	}
	if m.Clients {
		for _, c := range w.clients {
			w.send(w.reportClient(m.ID, c))
		}
	}
	w.send(&ipc.ReportEnd{ID: m.ID})
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
	case sessionActive:
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
		r.Since, r.AppName, r.Client = int64(s.c.since), s.login.application(), s.c.addr
	}
	return r
}

func (w *worker) reportWaiting(id uint64, s *session) *ipc.ReportSession {
	return &ipc.ReportSession{
		ID: id, Server: -1, State: "waiting", Start: s.c.start.Unix(), Since: int64(s.c.since), FD: s.client.FD(),
		Database: s.login.database, User: s.login.user, AppName: s.login.application(), Client: s.c.addr,
	}
}
