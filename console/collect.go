package console

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// about is what the console knows of its surroundings.
type about struct {
	build  string
	kernel [3]string // major, minor, patch
	certs  []certificate
}

// collector turns one snapshot into metrics. It implements prometheus.Collector.
type collector struct {
	metrics
	about
	snap      *snapshot
	now       time.Time
	detail    string
	maxSeries int

	out     chan<- prometheus.Metric
	varying int // series that metrics_max_series bounds
	dropped int
}

// Describe sends nothing, because the series differ from snapshot to snapshot. The registry
// then checks the metrics themselves.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.out, c.varying, c.dropped = out, 0, 0
	total := c.snap.total()
	c.self()
	c.figures(total)
	c.clients(total)
	for _, s := range c.snap.servers {
		c.server(s)
	}
	for i := range total.Servers {
		c.times(&total.Servers[i])
	}
	c.certificates()
	c.failover()
	c.processes()
	c.limits()
	c.pools()
	c.backends()
	c.add("metrics_dropped_series", float64(c.dropped))
}

// add sends one value.
func (c *collector) add(name string, v float64, labels ...string) {
	m := c.metrics[name]
	kind := prometheus.GaugeValue
	if m.kind == counter {
		kind = prometheus.CounterValue
	}
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "?")
	}
	c.out <- prometheus.MustNewConstMetric(m.desc, kind, v, labels...)
}

// some sends a value of which there may be very many.
func (c *collector) some(name string, v float64, labels ...string) {
	if c.varying >= c.maxSeries {
		c.dropped++
		return
	}
	c.varying++
	c.add(name, v, labels...)
}

func (c *collector) flag(name string, on bool, labels ...string) { c.add(name, number(on), labels...) }

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// histogram sends a histogram. bounds are the upper bounds of its buckets; what is above the
// last one is in the last count.
func (c *collector) histogram(name string, bounds []float64, h ipc.Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(bounds))
	n := uint64(0)
	for i, le := range bounds {
		if i < len(h.Counts) {
			n += h.Counts[i]
		}
		buckets[le] = n
	}
	for _, rest := range h.Counts[min(len(bounds), len(h.Counts)):] {
		n += rest
	}
	c.out <- prometheus.MustNewConstHistogram(c.metrics[name].desc, n, float64(h.Sum)/1e9, buckets, labels...)
}

// total is the sum of all workers, those that have died included.
func (s *snapshot) total() *ipc.WorkerStats {
	sum := &ipc.WorkerStats{Gauges: map[string]int64{}}
	for _, w := range s.workers {
		sum.Add(w)
		for name, v := range w.Gauges {
			if name == "wait_time" {
				sum.Gauges[name] = max(sum.Gauges[name], v)
				continue
			}
			sum.Gauges[name] += v
		}
	}
	return sum
}

// self sends what describes pgagroal and its configuration.
func (c *collector) self() {
	b := c.snap.begin
	c.add("build_info", 1, c.build)
	c.add("os_info", 1, "Linux", c.kernel[0], c.kernel[1], c.kernel[2])
	state := 1.0
	if b.Ending {
		state = 2
	}
	c.add("state", state)
	c.flag("writable", b.Writable)
	c.add("pipeline_mode", float64(b.Pipeline))
	c.add("server_reset_query_behavior_on_failure", float64(b.ResetOnFailure))
	c.add("max_connections", float64(b.MaxConnections))
	c.add("snapshot_age_seconds", c.now.Sub(c.snap.taken).Seconds())
	c.flag("state_dir_writable", b.StateDir)
	for _, part := range b.Confined {
		c.add("confinement", 1, part, "in_force")
	}
	for _, part := range b.Lacking {
		c.add("confinement", 1, part, "lacking")
	}
	for state, n := range map[string]int{"used": b.Leases.Used, "orphaned": b.Leases.Orphans, "unproven": b.Leases.Unproven, "waiting": b.Leases.Waiting} {
		c.add("leases", float64(n), state)
	}
}

// logNames are the counters of log lines, in the order in which the supervisor sends its own.
var logNames = [...]string{"logging_info", "logging_warn", "logging_error", "logging_fatal"}

// counted and gauged are what is taken from workers under its own name. A worker that was
// taken over can't add others.
var (
	counted = append(logNames[:],
		"query_count", "tx_count", "network_sent", "network_received", "connection_get", "connection_return",
		"connection_success", "connection_error", "connection_kill", "connection_timeout", "connection_idletimeout",
		"connection_max_connection_age", "connection_remove", "connection_flush", "connection_invalid",
		"auth_user_success", "auth_user_bad_password", "auth_user_error")
	gauged = []string{"active_connections", "total_connections", "client_active", "client_wait", "connection_awaiting", "wait_time"}
)

// figures sends what workers count and measure as a whole.
func (c *collector) figures(total *ipc.WorkerStats) {
	for i, name := range logNames {
		if i < len(c.snap.begin.Logged) {
			total.Counters[name] += c.snap.begin.Logged[i]
		}
	}
	for _, name := range counted {
		c.add(name, float64(total.Counters[name]))
	}
	for _, name := range gauged {
		c.add(name, float64(total.Gauges[name]))
	}
	c.handshakes(total.Counters)
	c.histogram("session_time_seconds", ipc.SessionBounds[:], total.Sessions)
	c.histogram("client_login_seconds", timeBounds, total.Logins)
	n := 0
	for index := range c.snap.workers {
		if index >= 0 {
			n++
		}
	}
	c.add("workers", float64(n))
}

// A counter of handshakes, such as tls_client_1.3_resumed or tls_server_failed_certificate.
var handshake = regexp.MustCompile(`^tls_(client|server)_(?:(1\.[23])(_resumed)?|failed_([a-z_]{1,40}))$`)

// handshakes sends the counters of TLS. Their number is bounded, because a worker that was
// taken over could make up reasons.
func (c *collector) handshakes(counters map[string]uint64) {
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		m := handshake.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		result := m[4]
		switch {
		case m[3] != "":
			result = "resumed"
		case m[2] != "":
			result = "full"
		}
		c.some("tls_handshakes_total", float64(counters[name]), m[1], m[2], result)
	}
}

// clientStates counts clients by what they are doing.
func (s *snapshot) clientStates(g map[string]int64) map[string]int64 {
	waiting := g["connection_awaiting"]
	by := map[string]int64{
		"unplaced": int64(s.begin.Unplaced), "login": g["client_wait"], "active": g["active_connections"],
		"idle": max(g["client_active"]-g["active_connections"]-waiting, 0), "waiting": waiting, "held": 0,
	}
	if s.begin.Failover.Held {
		by["waiting"], by["held"] = 0, waiting
	}
	return by
}

func (c *collector) clients(total *ipc.WorkerStats) {
	g := total.Gauges
	for state, n := range c.snap.clientStates(g) {
		c.add("clients", float64(n), state)
	}
	c.add("client_sockets", float64(g["client_active"]+g["client_wait"]))
	c.add("self_sockets", float64(g["total_connections"]))
}

// limits sends the rules of pgagroal_databases.conf.
func (c *collector) limits() {
	had := map[[2]string]bool{}
	for _, l := range c.snap.limits {
		if had[[2]string{l.User, l.Database}] {
			continue // the second rule for the same names is never used
		}
		had[[2]string{l.User, l.Database}] = true
		for i, v := range []int{l.Min, l.Initial, l.Max, l.Used, l.Used} {
			c.some("limit", float64(v), l.User, l.Database, [...]string{"min", "initial", "max", "active", "backend"}[i])
		}
		c.some("limit_awaiting", float64(l.Waiting), l.User, l.Database)
	}
}

// pools returns the pools of all workers together, by database, user and server.
func (s *snapshot) pools() []ipc.PoolFigures {
	type key struct {
		database, user string
		server         int
	}
	at := map[key]int{}
	var all []ipc.PoolFigures
	for _, w := range s.workers {
		for _, p := range w.Pools {
			k := key{p.Database, p.User, p.Server}
			i, there := at[k]
			if !there {
				i = len(all)
				at[k], all = i, append(all, ipc.PoolFigures{Database: p.Database, User: p.User, Server: p.Server})
			}
			all[i].Active, all[i].Idle, all[i].Waiting = all[i].Active+p.Active, all[i].Idle+p.Idle, all[i].Waiting+p.Waiting
		}
	}
	slices.SortFunc(all, func(a, b ipc.PoolFigures) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User), cmp.Compare(a.Server, b.Server))
	})
	return all
}

func (c *collector) pools() {
	if c.detail == detailServer {
		return
	}
	for _, p := range c.snap.pools() {
		name := c.snap.serverName(p.Server)
		c.some("pool_connections", float64(p.Active), p.Database, p.User, name, "active")
		c.some("pool_connections", float64(p.Idle), p.Database, p.User, name, "idle")
		c.some("pool_waiting", float64(p.Waiting), p.Database, p.User, name)
	}
}

// slots returns how many slots of servers there are, as far as they have one.
func (s *snapshot) slots() int {
	n := 0
	for _, s := range s.servers {
		n = max(n, s.Index+1)
	}
	return n
}

// serverName returns the name of a server, "" for none.
func (s *snapshot) serverName(index int) string {
	for _, s := range s.servers {
		if s.Index == index {
			return s.Name
		}
	}
	return ""
}

// backends sends each connection to a server.
func (c *collector) backends() {
	if c.detail != detailConnection {
		return
	}
	var all []ipc.BackendLine
	for _, w := range c.snap.workers {
		all = append(all, w.Backends...)
	}
	slices.SortFunc(all, func(a, b ipc.BackendLine) int { return cmp.Compare(a.Lease, b.Lease) })
	last := uint64(0)
	for _, b := range all {
		if b.Lease == last {
			continue // it has just moved from one worker to another
		}
		last = b.Lease
		id := strconv.FormatUint(b.Lease, 10)
		c.some("connection", 1, id, b.User, b.Database, b.AppName, b.State)
		c.some("connection_query_count", float64(b.Queries), id, b.User, b.Database, b.AppName)
	}
}
