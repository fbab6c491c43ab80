package top

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// Ask sends a command and decodes the Response of its answer.
type Ask func(command string, args map[string]string, response any) error

// sample is what pgagroal has answered at a time.
type sample struct {
	at       time.Time
	version  string
	details  control.StatusDetailsResponse
	failover control.FailoverStatusResponse
}

// take asks for a sample.
func take(ask Ask) (sample, error) {
	var details struct {
		ServerVersion string
		control.StatusDetailsResponse
	}
	if err := ask(control.StatusDetails, nil, &details); err != nil {
		return sample{}, err
	}
	s := sample{at: time.Now(), version: details.ServerVersion, details: details.StatusDetailsResponse}
	return s, ask(control.FailoverStatus, nil, &s.failover)
}

// seriesKept is how many values a series has: the columns of a wide screen.
const seriesKept = 300

// series are figures over time, the latest last.
type series struct {
	transactions, queries, latency, wait, waiting []float64
}

// add appends what has happened between two samples. Numbers that have fallen are those of
// a worker that has died.
func (s *series) add(before, after sample) {
	seconds := after.at.Sub(before.at).Seconds()
	if before.at.IsZero() || seconds <= 0 {
		return
	}
	b, a := before.details.Traffic, after.details.Traffic
	put := func(list *[]float64, v float64) {
		*list = append(*list, v)
		*list = (*list)[max(0, len(*list)-seriesKept):]
	}
	put(&s.transactions, grown(b.Transactions, a.Transactions)/seconds)
	put(&s.queries, grown(b.Queries, a.Queries)/seconds)
	put(&s.latency, mean(a.QuerySeconds-b.QuerySeconds, grown(b.Queries, a.Queries)))
	put(&s.wait, mean(a.WaitSeconds-b.WaitSeconds, grown(b.Waits, a.Waits)))
	put(&s.waiting, float64(a.Waiting))
}

func grown(before, after uint64) float64 {
	if after < before {
		return 0
	}
	return float64(after - before)
}

// mean is in milliseconds.
func mean(seconds, n float64) float64 {
	if n == 0 {
		return 0
	}
	return max(seconds, 0) / n * 1000
}
