package ipc

import "slices"

// StatsRequest asks a worker for its figures, for metrics and the web console.
type StatsRequest struct {
	ID       uint64 `msgpack:"id"`
	Sessions bool   `msgpack:"sessions"` // and for a list of its backends
}

// Stats is a part of the answer: a packed WorkerStats, which the supervisor passes on as it is.
type Stats struct {
	ID   uint64 `msgpack:"id"`
	Part Packed `msgpack:"part"`
}

// StatsEnd closes the answer.
type StatsEnd struct {
	ID uint64 `msgpack:"id"`
}

// partServers and partLines are how many servers, and how many pools or backends, one part has at
// most, so that it fits into a packet.
const (
	partServers = 16
	partLines   = 64
)

// MaxLabel bounds each name in a WorkerStats, in bytes. PostgreSQL's own names are shorter.
const MaxLabel = 128

// WorkerStats is what a worker has counted since its start, and its gauges. An answer has several
// parts, whose sum is meant.
type WorkerStats struct {
	Counters map[string]uint64 `msgpack:"counters"`
	Gauges   map[string]int64  `msgpack:"gauges"`
	// Sessions are the lengths of sessions, in the buckets of SessionBounds; Logins are the times
	// from accept to the end of a login, in those of TimeBounds, as the times of servers are.
	Sessions Histogram     `msgpack:"sessions"`
	Logins   Histogram     `msgpack:"logins"`
	Servers  []ServerTimes `msgpack:"servers"`
	Pools    []PoolFigures `msgpack:"pools"`
	Backends []BackendLine `msgpack:"backends"`
}

// ServerTimes are the times of what happens with one server.
type ServerTimes struct {
	Server       int       `msgpack:"server"`       // its index
	Waits        Histogram `msgpack:"waits"`        // of clients for a backend
	Opens        Histogram `msgpack:"opens"`        // of backends: connection, TLS and login
	Queries      Histogram `msgpack:"queries"`      // from a request to the ReadyForQuery that answers it
	Transactions Histogram `msgpack:"transactions"` // from the first request to the end of the transaction
	Errors       uint64    `msgpack:"errors"`       // backends that could not be opened
}

// Histogram counts observations: Counts has one number for each bucket and one for everything above
// the last bound. Sum is in nanoseconds.
type Histogram struct {
	Counts []uint64 `msgpack:"counts"`
	Sum    uint64   `msgpack:"sum"`
}

// PoolFigures is one pool of a worker.
type PoolFigures struct {
	Database string `msgpack:"database"`
	User     string `msgpack:"user"`
	Server   int    `msgpack:"server"`
	Active   int    `msgpack:"active"`
	Idle     int    `msgpack:"idle"`
	Waiting  int    `msgpack:"waiting"`
}

// BackendLine is one backend of a worker.
type BackendLine struct {
	Lease    uint64 `msgpack:"lease"`
	Database string `msgpack:"database"`
	User     string `msgpack:"user"`
	AppName  string `msgpack:"appname"`
	State    string `msgpack:"state"`
	Queries  uint64 `msgpack:"queries"` // of the client that has it
}

// SessionBounds are the upper bounds of the lengths of sessions in seconds, those of C pgagroal.
var SessionBounds = [...]float64{
	5, 10, 20, 30, 45, 60, 300, 600, 1200, 1800, 2700, 3600, 7200, 14400, 21600, 43200, 86400,
}

// TimeUnit is the lowest bound of a time in nanoseconds. Each further bound, of TimeBuckets
// together, is twice the one before: 50 microseconds to 52 seconds.
const (
	TimeUnit    = 50_000
	TimeBuckets = 21
)

// TimeBounds returns the upper bounds of times in seconds.
func TimeBounds() []float64 {
	bounds := make([]float64, TimeBuckets)
	for i := range bounds {
		bounds[i] = float64(uint64(TimeUnit)<<i) / 1e9
	}
	return bounds
}

// Add adds the counters and histograms of other, but none of its gauges and lists, which are of the
// moment.
func (w *WorkerStats) Add(other *WorkerStats) {
	if w.Counters == nil {
		w.Counters = map[string]uint64{}
	}
	for name, n := range other.Counters {
		w.Counters[name] += n
	}
	w.Sessions.Add(other.Sessions)
	w.Logins.Add(other.Logins)
	for i := range other.Servers {
		from := &other.Servers[i]
		to := w.server(from.Server)
		to.Waits.Add(from.Waits)
		to.Opens.Add(from.Opens)
		to.Queries.Add(from.Queries)
		to.Transactions.Add(from.Transactions)
		to.Errors += from.Errors
	}
}

// Bound drops what no honest worker says: servers beyond those that there are, and more buckets
// than a histogram has.
func (w *WorkerStats) Bound(servers int) {
	w.Servers = slices.DeleteFunc(w.Servers, func(t ServerTimes) bool { return t.Server < 0 || t.Server >= servers })
	w.Sessions.bound(len(SessionBounds) + 1)
	w.Logins.bound(TimeBuckets + 1)
	for i := range w.Servers {
		t := &w.Servers[i]
		for _, h := range []*Histogram{&t.Waits, &t.Opens, &t.Queries, &t.Transactions} {
			h.bound(TimeBuckets + 1)
		}
	}
}

func (h *Histogram) bound(buckets int) { h.Counts = h.Counts[:min(len(h.Counts), buckets)] }

func (w *WorkerStats) server(index int) *ServerTimes {
	for i := range w.Servers {
		if w.Servers[i].Server == index {
			return &w.Servers[i]
		}
	}
	w.Servers = append(w.Servers, ServerTimes{Server: index})
	return &w.Servers[len(w.Servers)-1]
}

// Split returns the parts of w, each of which fits into a packet.
func (w WorkerStats) Split() []WorkerStats {
	servers, pools, backends := w.Servers, w.Pools, w.Backends
	w.Servers, w.Pools, w.Backends = nil, nil, nil
	parts := []WorkerStats{w}
	for part := range slices.Chunk(servers, partServers) {
		parts = append(parts, WorkerStats{Servers: part})
	}
	for part := range slices.Chunk(pools, partLines) {
		parts = append(parts, WorkerStats{Pools: part})
	}
	for part := range slices.Chunk(backends, partLines) {
		parts = append(parts, WorkerStats{Backends: part})
	}
	return parts
}

// MaxParts returns how many parts Split makes at most of so many servers, pools and backends.
func MaxParts(servers, pools, backends int) int {
	return 4 + servers/partServers + pools/partLines + backends/partLines
}

// Add adds another histogram with the same buckets.
func (h *Histogram) Add(other Histogram) {
	for len(h.Counts) < len(other.Counts) {
		h.Counts = append(h.Counts, 0)
	}
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
}

func (*StatsRequest) Number() Number { return 132 }
func (*Stats) Number() Number        { return 133 }
func (*StatsEnd) Number() Number     { return 134 }
