package supervisor

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func TestTimeOfAProcessThatWasMissedOnceIsCountedOnce(t *testing.T) {
	var u usage
	at := func(pid int, seconds time.Duration) []processUse {
		return []processUse{{name: "runner", pid: pid, cpu: seconds * time.Second}}
	}
	total := func() time.Duration { return u.now["runner"].cpu + u.gone["runner"] }
	u.note(at(7, 10))
	u.note(nil)
	u.note(at(7, 11))
	if total() != 11*time.Second {
		t.Errorf("%v after a gap, want 11s", total())
	}
	u.note(nil)
	u.note(at(8, 1))
	if total() != 12*time.Second {
		t.Errorf("%v with another process, want 12s", total())
	}
	u.note(at(8, 2))
	if total() != 13*time.Second {
		t.Errorf("%v, want 13s", total())
	}
}

// TestLagDoesNotMixPrimaries: what an old primary has written and a new one hasn't is lacking
// to nobody.
func TestLagDoesNotMixPrimaries(t *testing.T) {
	var f figures
	primary := func(server int, lsn uint64, at time.Duration) {
		f.probed(failover.ProbeDone{Server: server, Outcome: failover.SawPrimary, Obs: failover.Observation{WriteLSN: lsn}, Ended: at})
	}
	standby := func(server int, lsn uint64, at time.Duration) {
		f.probed(failover.ProbeDone{Server: server, Outcome: failover.SawStandby, Obs: failover.Observation{ReplayLSN: lsn}, Ended: at})
	}
	primary(0, 900, time.Second)
	primary(0, 1000, 2*time.Second)
	standby(2, 950, 5*time.Second)
	if got := f.lag(2); got != 3*time.Second {
		t.Errorf("lag %v, want 3s", got)
	}
	primary(1, 950, 6*time.Second) // promoted before it had 1000
	standby(2, 950, 9*time.Second)
	if got := f.lag(2); got != 0 {
		t.Errorf("lag %v behind the new primary, want 0", got)
	}
}

func TestStatsBoundDropsWhatNoWorkerSays(t *testing.T) {
	w := ipc.WorkerStats{Logins: ipc.Histogram{Counts: make([]uint64, 1000)}, Servers: []ipc.ServerTimes{
		{Server: -1}, {Server: 1, Waits: ipc.Histogram{Counts: make([]uint64, 1000)}}, {Server: 2},
	}}
	w.Bound(2)
	if len(w.Servers) != 1 || w.Servers[0].Server != 1 || len(w.Servers[0].Waits.Counts) != ipc.TimeBuckets+1 || len(w.Logins.Counts) != ipc.TimeBuckets+1 {
		t.Errorf("%+v", w)
	}
}
