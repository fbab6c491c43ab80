package worker

import "github.com/pgagroal-go/pgagroal/ipc"

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
	w.send(&ipc.ReportEnd{ID: m.ID})
}

func (w *worker) report(id uint64) *ipc.Report {
	return &ipc.Report{ID: id, Gauges: w.gauges(), Traffic: w.stats.traffic()}
}

func (w *worker) reportBackend(id uint64, b *backend) *ipc.ReportSession {
	r := &ipc.ReportSession{
		ID: id, Lease: b.Lease, Server: b.server, State: b.state.String(), Start: w.born.Add(b.Born).Unix(),
		Since: b.since.Unix(), PID: b.pid, FD: b.conn.FD(), Database: b.Pool.Key.Database, User: b.Pool.Key.User,
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
