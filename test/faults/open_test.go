package faults

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// An old primary lives on and refuses new connections from pgagroal alone. Its open
// connections work, so it could still take writes of pgagroal's clients. After the first
// row on the new primary no row may arrive at the old one.
func TestNothingReachesAnOldPrimaryAfterTheFirstRowOnTheNewOne(t *testing.T) {
	needNetworks(t)
	t.Parallel()
	n := 1
	if *repeat > 2 {
		n = *repeat
	}
	t.Run("open", func(t *testing.T) {
		for i := range n {
			for _, pipeline := range []string{"session", "transaction"} {
				t.Run(pipeline+"/"+strconv.Itoa(i+1), func(t *testing.T) {
					t.Parallel()
					writtenTo(t, pipeline)
				})
			}
		}
	})
	if *write && !t.Failed() {
		pool.Must(t, publish("open", fmt.Sprintf("%d failovers of that kind in the session pipeline and as many in the\ntransaction pipeline: no row on the old primary after the first one on the new.", n)))
	}
}

func writtenTo(t *testing.T, pipeline string) {
	s := play(t, plan{
		keys: map[string]string{"pipeline": pipeline},
		// A commit of the old primary must not wait for anybody, or it would prove nothing.
		options: func(o *pgtest.Options) { o.SyncStandbys = "" },
	})
	const refused = "ip saddr @pool tcp dport 5432 tcp flags & (syn|ack) == syn reject with tcp reset"
	start := time.Now()
	s.net.rule("n1", refused)
	// Clients aren't disturbed; somebody has to look. The health check does.
	cut := s.ran().at
	s.wait("the pool to be open on another server", func(st map[string]any) bool { return st["Phase"] == "open" && st["Primary"] != "n1" })
	s.served(50)
	old, next := s.stamps(1), s.stamps(s.primary())
	if len(old) == 0 || len(next) == 0 {
		t.Fatalf("%d rows on the old primary, %d on the new one", len(old), len(next))
	}
	last, first := old[len(old)-1], next[0]
	t.Logf("cut off %v; script %v; last row on the old one %v, first on the new one %v",
		start.Format(clock), cut.Format(clock), last.Format(clock), first.Format(clock))
	if last.Before(start) {
		t.Error("clients wrote nothing to the old primary after it was cut off: nothing was tried")
	}
	if !last.Before(first) {
		t.Errorf("the old primary has a row of %v, the new one's first is of %v", last.Format(clock), first.Format(clock))
	}
	s.net.heal()
	s.waitState("n1", "Failed (split brain)")
	s.served(20)
	if again := s.stamps(1); len(again) != len(old) {
		t.Errorf("%d more rows on the old primary", len(again)-len(old))
	}
}

const clock = "15:04:05.000000"

// stamps are the times of the commits of the rows that were written on a node,
// in their order. All hosts share one clock.
func (s *scene) stamps(node int) []time.Time {
	s.t.Helper()
	name := s.node(node).Name
	text := s.sql(node, "SELECT round(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM t WHERE node = '"+name+"' ORDER BY 1")
	var out []time.Time
	for _, us := range strings.Fields(text) {
		n, err := strconv.ParseInt(us, 10, 64)
		pool.Must(s.t, err)
		out = append(out, time.UnixMicro(n))
	}
	return out
}
