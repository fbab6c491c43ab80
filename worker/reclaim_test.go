package worker

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// One who waits elsewhere is owed a backend when it has waited for long enough and
// was passed over by as many as there may be backends, both.
func TestBackendIsOwedToWhoWasPassedOverElsewhere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		waits  time.Duration
		later  int
		leases []uint64
		own    bool
		owed   bool
	}{
		{"long, passed over", fairness + time.Millisecond, 2, nil, false, true},
		{"long, passed over, by a rule", fairness + time.Millisecond, 2, []uint64{1}, false, true},
		{"long, not passed over", fairness + time.Millisecond, 1, nil, false, false},
		{"passed over, not long", fairness / 2, 2, nil, false, false},
		{"another lease is wanted", fairness + time.Millisecond, 2, []uint64{9}, false, false},
		{"a client of this worker", fairness + time.Millisecond, 2, nil, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			w := &worker{born: now.Add(-time.Hour), pools: map[ipc.PoolKey]*pool{}}
			p := w.pool(poolD)
			b := &backend{w: w, pool: p, lease: 1}
			w.served.keep()
			p.served.keep()
			came := now.Add(-tt.waits)
			w.serves(p, came.Add(-time.Second)) // before it
			for range tt.later {
				w.serves(p, came.Add(time.Millisecond))
			}
			w.reclaims = []reclaim{{&ipc.Reclaim{ID: 1, Key: poolD, Leases: tt.leases, Own: tt.own, Size: 2}, came}}
			if owed := w.owes(b, &waiter{id: 1, since: came.Add(2 * time.Millisecond)}); owed != tt.owed {
				t.Errorf("owed %v to one who came first, want %v", owed, tt.owed)
			}
			if w.owes(b, &waiter{id: 1, since: came.Add(-time.Millisecond)}) {
				t.Error("owed although ours came first")
			}
		})
	}
}
