package faults

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// modes are faults that a setting answers in another way.
func modes() []fault {
	heal := func(s *scene) { s.net.heal() }
	return []fault{
		{
			name: "host cut off, fenced", how: "all packets dropped; failover_fence_script stops it for good", run: true, reason: "standbys don't receive",
			plan:  plan{before: func(s *scene) { s.fence("exec kill -9 $(head -n 1 " + s.node(1).DataDir + "/postmaster.pid)") }},
			begin: func(s *scene) { s.around("n1") },
			end: func(s *scene) {
				s.net.heal()
				if runs := s.runs("fence.sh"); len(runs) != 1 || runs[0].args != s.node(1).Host+" 5432" {
					s.t.Errorf("runs of the fence script: %v", runs)
				}
				if s.node(1).Running() {
					s.t.Error("the old primary runs")
				}
				if fenced, promoted := s.runs("fence.sh")[0].at, s.runs("failover.sh")[0].at; !fenced.Before(promoted) {
					s.t.Errorf("fenced %v, promoted %v", fenced, promoted)
				}
			},
		},
		{
			name: "host cut off, not fenced", how: "all packets dropped; failover_fence_script fails", decision: "no run; held until the primary is back",
			plan:  plan{before: func(s *scene) { s.fence("exit 1") }},
			begin: func(s *scene) { s.around("n1") },
			check: func(s *scene) {
				s.held("failover_fence_script ended with exit code 1")
				s.calm(time.Second)
				heal(s)
				s.same()
			},
		},
		{
			name: "host dies, follow", how: "SIGKILL; failover_mode = follow, somebody promotes n2 two seconds after the hold", decision: "no run; follows n2",
			plan: plan{
				keys:    map[string]string{"failover_mode": "follow"},
				options: func(o *pgtest.Options) { o.SyncStandbys = "FIRST 1 (n2, n3)" }, // or only n3 may have what n2 lacks
			},
			begin: func(s *scene) { pool.Must(s.t, s.node(1).Kill()) },
			check: followed,
		},
	}
}

// fence gives the pool a fence script.
func (s *scene) fence(body string) {
	s.t.Helper()
	s.hook("fence.sh", body)
	s.p.SetKey("failover_fence_script", s.p.Path("hooks/fence.sh"))
}

// held waits until no primary is open, for a reason with this text.
func (s *scene) held(reason string) {
	s.t.Helper()
	s.wait("a hold", func(st map[string]any) bool {
		return st["Phase"] == "held" && strings.Contains(fmt.Sprint(st["HeldReason"]), reason)
	})
}

func followed(s *scene) {
	s.t.Helper()
	s.held("failover_mode = follow")
	s.calm(2 * time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	pool.Must(s.t, s.node(2).Promote(ctx))
	s.opened("n2")
	s.served(50)
	if runs := s.runs("failover.sh"); len(runs) > 0 {
		s.t.Errorf("the failover script ran: %v", runs)
	}
}
