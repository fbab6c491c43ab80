package worker

import (
	"crypto/tls"
	"maps"
	"math/bits"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// A worker counts what happens in plain fields that belong to the loop, and sends them when
// the supervisor asks, which is when somebody looks. A time is the difference of two turns
// of the loop: the loop reads the clock once a turn, whatever is counted.

// stats are a worker's counters since its start.
type stats struct {
	attached, returned         uint64
	opened, openErrors         uint64
	closed, timeouts           uint64
	evicted                    [pool.EvictHeld + 1]uint64 // closed by the shelf, by its reason
	broken                     uint64                     // idle, and a test has shown it
	sessionSeconds             float64
	sessionTimes               [len(ipc.SessionBounds) + 1]uint64
	authOK, authBad, authError uint64
	lastWait                   time.Duration // of a client for a backend
	logins                     histogram
	servers                    []serverTimes // by index
	// handshakes of TLS, by names such as tls_client_1.3_resumed and tls_server_failed_certificate.
	handshakes map[string]uint64
}

// serverTimes are the times of what happens with one server.
type serverTimes struct {
	waits, opens, queries, transactions histogram
	errors                              uint64
}

// histogram counts times in the buckets of ipc.TimeBounds.
type histogram struct {
	counts [ipc.TimeBuckets + 1]uint64
	sum    uint64 // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	n := uint64(max(d, 0))
	h.sum += n
	// Each bucket ends at twice the bound of the one before, so the number of bits is the bucket.
	h.counts[min(bits.Len64((max(n, 1)-1)/ipc.TimeUnit), ipc.TimeBuckets)]++
}

func (h *histogram) message() ipc.Histogram {
	return ipc.Histogram{Counts: h.counts[:], Sum: h.sum}
}

func (h *histogram) tally() ipc.Tally {
	t := ipc.Tally{Sum: h.sum}
	for _, n := range h.counts {
		t.N += n
	}
	return t
}

// traffic is the sum over all servers.
func (s *stats) traffic() ipc.Traffic {
	var sum ipc.Traffic
	for i := range s.servers {
		sv := &s.servers[i]
		sum.Add(ipc.Traffic{Queries: sv.queries.tally(), Transactions: sv.transactions.tally(), Waits: sv.waits.tally()})
	}
	return sum
}

// server returns the times of a server.
func (s *stats) server(index int) *serverTimes {
	for index >= len(s.servers) {
		s.servers = append(s.servers, serverTimes{})
	}
	return &s.servers[index]
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
	for i, le := range ipc.SessionBounds {
		if sec <= le {
			s.sessionTimes[i]++
			return
		}
	}
	s.sessionTimes[len(ipc.SessionBounds)]++
}

// badPassword counts a failed authentication.
func (s *stats) badPassword(err error) {
	if badPassword(err) {
		s.authBad++
		return
	}
	s.authError++
}

// waited counts how long a session has waited for its backend; waiter is nil if one was free.
func (s *session) waited(b *backend) {
	st := &s.w.stats
	st.attached++
	b.clock = clock{}
	d := time.Duration(0)
	if s.waiter != nil {
		d = s.w.now() - s.waiter.Since
		st.lastWait = d
	}
	st.server(b.server).waits.observe(d)
}

// clock is when the work began that a client has a backend do, 0 if there is none.
type clock struct {
	query, transaction time.Duration
	queries            uint64 // of this client, answered
}

// starts notes that the server was sent something.
func (b *backend) starts() {
	if b.clock.query != 0 {
		return
	}
	b.clock.query = b.w.now()
	if b.clock.transaction == 0 {
		b.clock.transaction = b.clock.query
	}
}

// answers counts the times of what the server has answered.
func (b *backend) answers(at relay.Stand) {
	c := &b.clock
	if c.query == 0 {
		return
	}
	now, times := b.w.now(), b.w.stats.server(b.server)
	times.queries.observe(now - c.query)
	c.query = 0
	c.queries++
	if at != relay.InBlock {
		times.transactions.observe(now - c.transaction)
		c.transaction = 0
	}
}

// counters returns the counters by the names of C pgagroal.
func (w *worker) counters() map[string]uint64 {
	st, seen := &w.stats, &w.shared.Totals
	kept := st.evicted[pool.EvictAge] + st.evicted[pool.EvictIdle] + st.evicted[pool.EvictFlush]
	removed := uint64(0)
	for _, n := range st.evicted {
		removed += n
	}
	all := map[string]uint64{
		"query_count": seen.Queries, "tx_count": seen.Transactions,
		"network_sent": seen.Sent, "network_received": seen.Received,
		"connection_get": st.attached, "connection_return": st.returned,
		"connection_success": st.opened, "connection_error": st.openErrors,
		"connection_kill": st.closed, "connection_timeout": st.timeouts,
		"connection_idletimeout": st.evicted[pool.EvictIdle], "connection_max_connection_age": st.evicted[pool.EvictAge],
		"connection_remove": removed - kept, "connection_flush": st.evicted[pool.EvictFlush], "connection_invalid": st.broken,
		"auth_user_success": st.authOK, "auth_user_bad_password": st.authBad, "auth_user_error": st.authError,
	}
	maps.Copy(all, st.handshakes)
	return all
}

func (w *worker) gauges() map[string]int64 {
	active := 0
	for _, b := range w.backends {
		if b.session != nil {
			active++
		}
	}
	return map[string]int64{
		"active_connections": int64(active), "total_connections": int64(len(w.backends)),
		"client_active": int64(w.sessions), "client_wait": int64(len(w.clients) - w.sessions),
		"connection_awaiting": int64(w.shelf.Waiting()),
	}
}

// onStatsRequest answers with everything that is counted, and with the pools.
func (w *worker) onStatsRequest(m *ipc.StatsRequest) {
	for _, part := range w.figures(m.Sessions).Split() {
		packed, err := ipc.Pack(&part)
		if err != nil {
			w.log.Error("figures can't be sent", "error", err)
			break
		}
		w.send(&ipc.Stats{ID: m.ID, Part: packed})
	}
	w.send(&ipc.StatsEnd{ID: m.ID})
}

func (w *worker) figures(sessions bool) ipc.WorkerStats {
	st := &w.stats
	f := ipc.WorkerStats{
		Counters: w.counters(), Gauges: w.gauges(), Logins: st.logins.message(),
		Sessions: ipc.Histogram{Counts: st.sessionTimes[:], Sum: uint64(st.sessionSeconds * 1e9)},
	}
	f.Gauges["wait_time"] = int64(st.lastWait / time.Second)
	for i, n := range logline.Lines(w.log) {
		f.Counters[logNames[i]] = n
	}
	for i := range st.servers {
		s := &st.servers[i]
		f.Servers = append(f.Servers, ipc.ServerTimes{
			Server: i, Waits: s.waits.message(), Opens: s.opens.message(), Queries: s.queries.message(),
			Transactions: s.transactions.message(), Errors: s.errors,
		})
	}
	f.Pools = w.poolFigures()
	if sessions {
		for _, b := range w.backends {
			f.Backends = append(f.Backends, w.backendLine(b))
		}
	}
	return f
}

// logNames are the counters of log lines, in the order of logline.Lines.
var logNames = [...]string{"logging_info", "logging_warn", "logging_error", "logging_fatal"}

// poolFigures returns what the pools of each database and user have, and who waits for them.
func (w *worker) poolFigures() []ipc.PoolFigures {
	type key struct {
		database, user string
		server         int
	}
	at := map[key]*ipc.PoolFigures{}
	figures := func(k pool.Key, server int) *ipc.PoolFigures {
		x := key{k.Database, k.User, server}
		if at[x] == nil {
			at[x] = &ipc.PoolFigures{Database: label(k.Database), User: label(k.User), Server: server}
		}
		return at[x]
	}
	for _, b := range w.backends {
		f := figures(b.Pool.Key, b.server)
		if b.Idle() {
			f.Idle++
		} else {
			f.Active++
		}
	}
	for _, wt := range w.shelf.Waiters() {
		figures(wt.Pool.Key, w.servers.Primary).Waiting++
	}
	list := make([]ipc.PoolFigures, 0, len(at))
	for _, f := range at {
		list = append(list, *f)
	}
	return list
}

func (w *worker) backendLine(b *backend) ipc.BackendLine {
	l := ipc.BackendLine{
		Lease: b.Lease, Database: label(b.Pool.Key.Database), User: label(b.Pool.Key.User), State: b.state.String(), Queries: b.clock.queries,
	}
	if s := b.session; s != nil {
		l.AppName = label(s.login.application())
	}
	return l
}

// label cuts a name to the length that fits into a part.
func label(name string) string { return strings.ToValidUTF8(name[:min(len(name), ipc.MaxLabel)], "") }

// clearStats sets everything that is counted back to zero. Gauges stay as they are.
func (w *worker) clearStats() {
	w.stats = stats{servers: make([]serverTimes, len(w.stats.servers))} // so that their series stay
	w.shared.Totals = relay.Totals{}
	logline.ClearLines(w.log)
}
