package console

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// samplesKept is how many samples a page that is opened gets at once: 10 minutes.
	samplesKept = 600
	// apart is how far apart two snapshots may be for a sample. After a pause of everybody
	// who looked, figures of the whole pause would look like figures of now.
	apart = 10 * time.Second
)

// sample is what the charts show of the time between two snapshots. Rates are per second,
// times in seconds. A time of which nothing was measured is nil.
type sample struct {
	Time         float64 // Unix seconds
	Queries      float64
	Transactions float64
	Sent         float64 // bytes from clients to servers
	Received     float64 // bytes from servers to clients
	Errors       float64 // connections to servers that could not be opened
	QueryP50     *float64
	QueryP99     *float64
	WaitP50      *float64
	WaitP99      *float64
	Clients      int64 // that have logged in
	Active       int64 // connections to servers that a client has
	Total        int64 // connections to servers
	Waiting      int64
}

// sampler makes samples of snapshots.
type sampler struct {
	last  *snapshot
	total *ipc.WorkerStats
	kept  []sample
}

// note returns the sample that ends with a snapshot, nil if there is none: it is the first
// one, or the same or an older one.
func (m *sampler) note(s *snapshot, total *ipc.WorkerStats) *sample {
	if m.last != nil && !s.taken.After(m.last.taken) {
		return nil
	}
	was, before := m.total, m.last
	m.last, m.total = s, total
	if before == nil || s.taken.Sub(before.taken) > apart {
		return nil
	}
	x := between(was, total, s.taken.Sub(before.taken).Seconds())
	x.Time = float64(s.taken.UnixMilli()) / 1e3
	if len(m.kept) == samplesKept {
		m.kept = append(m.kept[:0], m.kept[1:]...)
	}
	m.kept = append(m.kept, x)
	return &x
}

func between(was, is *ipc.WorkerStats, seconds float64) sample {
	rate := func(name string) float64 { return grown(was.Counters[name], is.Counters[name]) / seconds }
	x := sample{
		Queries: rate("query_count"), Sent: rate("network_sent"), Received: rate("network_received"),
		Clients: is.Gauges["client_active"], Active: is.Gauges["active_connections"],
		Total: is.Gauges["total_connections"], Waiting: is.Gauges["connection_awaiting"],
	}
	wasSum, isSum := allServers(was), allServers(is)
	queries, waits := since(wasSum.Queries, isSum.Queries), since(wasSum.Waits, isSum.Waits)
	x.Transactions = float64(count(since(wasSum.Transactions, isSum.Transactions))) / seconds
	x.Errors = grown(wasSum.Errors, isSum.Errors) / seconds
	x.QueryP50, x.QueryP99 = quantile(queries, 0.5), quantile(queries, 0.99)
	x.WaitP50, x.WaitP99 = quantile(waits, 0.5), quantile(waits, 0.99)
	return x
}

// grown is how much a counter has grown. A worker that was taken over may count backwards.
func grown(was, is uint64) float64 {
	if is < was {
		return 0
	}
	return float64(is - was)
}

func allServers(w *ipc.WorkerStats) (sum ipc.ServerTimes) {
	for i := range w.Servers {
		t := &w.Servers[i]
		sum.Queries.Add(t.Queries)
		sum.Transactions.Add(t.Transactions)
		sum.Waits.Add(t.Waits)
		sum.Errors += t.Errors
	}
	return sum
}

// since returns the observations of is that weren't in was.
func since(was, is ipc.Histogram) []uint64 {
	new := make([]uint64, len(is.Counts))
	for i, n := range is.Counts {
		if i < len(was.Counts) {
			n -= min(n, was.Counts[i])
		}
		new[i] = n
	}
	return new
}

func count(buckets []uint64) (n uint64) {
	for _, b := range buckets {
		n += b
	}
	return n
}

// quantile estimates a quantile as Prometheus does: observations lie evenly in their bucket,
// and those beyond the last bound at that bound.
func quantile(buckets []uint64, q float64) *float64 {
	total := count(buckets)
	if total == 0 {
		return nil
	}
	rank, below := q*float64(total), uint64(0)
	for i, n := range buckets {
		if i >= len(timeBounds) {
			break
		}
		if float64(below+n) >= rank && n > 0 {
			from := 0.0
			if i > 0 {
				from = timeBounds[i-1]
			}
			v := from + (timeBounds[i]-from)*(rank-float64(below))/float64(n)
			return &v
		}
		below += n
	}
	v := timeBounds[len(timeBounds)-1]
	return &v
}
