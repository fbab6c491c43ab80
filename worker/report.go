package worker

import (
	"crypto/tls"
	"maps"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// sessionBuckets are the upper bounds of the histogram of session lengths in seconds, those
// of C pgagroal.
var sessionBuckets = [...]float64{
	5, 10, 20, 30, 45, 60, 300, 600, 1200, 1800, 2700, 3600, 7200, 14400, 21600, 43200, 86400,
}

// stats are a worker's counters since its start.
type stats struct {
	attached            uint64
	opened, openErrors  uint64
	closed, timeouts    uint64
	sessionSeconds      float64
	sessionTimes        [len(sessionBuckets) + 1]uint64
	authBad, authErrors uint64
	// handshakes of TLS, by names such as tls_client_1.3_resumed and tls_server_failed_certificate.
	handshakes map[string]uint64
}

// handshake counts a TLS handshake; side is client or server. c is nil after an error.
func (s *stats) handshake(side string, c *tlsmem.Conn, err error) {
	name := "tls_" + side + "_failed_" + tlsmem.CauseOf(err).String()
	if err == nil {
		version, resumed := c.Session()
		name = "tls_" + side + "_1.2"
		if version == tls.VersionTLS13 {
			name = "tls_" + side + "_1.3"
		}
		if resumed {
			name += "_resumed"
		}
	}
	if s.handshakes == nil {
		s.handshakes = make(map[string]uint64)
	}
	s.handshakes[name]++
}

func (s *stats) sessionTime(d time.Duration) {
	sec := d.Seconds()
	s.sessionSeconds += sec
	for i, le := range sessionBuckets {
		if sec <= le {
			s.sessionTimes[i]++
			return
		}
	}
	s.sessionTimes[len(sessionBuckets)]++
}

// badPassword counts a failed authentication.
func (s *stats) badPassword(err error) {
	if badPassword(err) {
		s.authBad++
		return
	}
	s.authErrors++
}

// onReportRequest answers with the counters and, if requested, every backend and every
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
	st, seen := &w.stats, &w.shared.Totals
	active := 0
	for _, b := range w.backends {
		if b.session != nil {
			active++
		}
	}
	r := &ipc.Report{
		ID: id,
		Counters: map[string]uint64{
			"query_count": seen.Queries, "tx_count": seen.Transactions,
			"network_sent": seen.Sent, "network_received": seen.Received,
			"connection_get": st.attached, "connection_success": st.opened, "connection_error": st.openErrors,
			"connection_kill": st.closed, "connection_timeout": st.timeouts,
			"auth_user_bad_password": st.authBad, "auth_user_error": st.authErrors,
		},
		Gauges: map[string]int64{
			"active_connections": int64(active), "total_connections": int64(len(w.backends)),
			"client_active": int64(w.sessions), "client_wait": int64(len(w.clients) - w.sessions),
			"connection_awaiting": int64(w.shelf.Waiting()),
		},
		SessionTimes:   append([]uint64(nil), st.sessionTimes[:]...),
		SessionSeconds: st.sessionSeconds,
	}
	maps.Copy(r.Counters, st.handshakes)
	return r
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
