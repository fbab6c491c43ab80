package supervisor

import (
	"maps"
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

// TestLagReachesBackForHours has a standby that stands still for three hours, in which every
// probe of the primary shows another position.
func TestLagReachesBackForHours(t *testing.T) {
	var f figures
	const hours = 3 * 60 * 60
	f.probed(failover.ProbeDone{Server: 1, Outcome: failover.SawStandby, Obs: failover.Observation{ReplayLSN: 1}, Ended: 0})
	for i := range hours {
		at := time.Duration(i) * time.Second
		f.probed(failover.ProbeDone{Server: 0, Outcome: failover.SawPrimary, Obs: failover.Observation{WriteLSN: uint64(i + 1)}, Ended: at})
	}
	f.probed(failover.ProbeDone{Server: 1, Outcome: failover.SawStandby, Obs: failover.Observation{ReplayLSN: 1}, Ended: hours * time.Second})
	if got, want := f.lag(1), hours*time.Second; got < want*95/100 || got > want {
		t.Errorf("lag %v, want %v or 5 %% less at most", got, want)
	}
	if len(f.wrote) > positionsKept {
		t.Errorf("%d positions are kept, want %d at most", len(f.wrote), positionsKept)
	}
}

// TestEveryRunHasASeriesBeforeItsFirst: what begins with 1 has no increase.
func TestEveryRunHasASeriesBeforeItsFirst(t *testing.T) {
	var f figures
	zero := f.allRuns()
	f.note(time.Unix(0, 0), failover.RunEnded{Hook: failover.HookFailover, Exit: 3})
	f.note(time.Unix(0, 0), failover.RunEnded{Hook: failover.HookFence, Refused: "mode"})
	changed := map[string]bool{}
	for i, r := range f.allRuns() {
		if z := zero[i]; z.N != 0 || z.Hook != r.Hook || z.Outcome != r.Outcome {
			t.Errorf("the series are %+v at first, then %+v", z, r)
		}
		if r.N == 1 {
			changed[r.Hook+" "+r.Outcome] = true
		}
	}
	if len(changed) != 2 || !changed["failover failed"] || !changed["fence refused"] {
		t.Errorf("counted: %v", changed)
	}
}

// TestPhasesOfTheLastFailoverStay: neither a false suspicion nor the next calm hour changes them.
func TestPhasesOfTheLastFailoverStay(t *testing.T) {
	var f figures
	at := time.Duration(0)
	for _, step := range []struct {
		phase string
		after time.Duration
	}{
		{"starting", 0},
		{"open", 1},
		{"suspect", 60},
		{"open", 2},
		{"suspect", 60},
		{"fencing", 3},
		{"choosing", 1},
		{"running", 4},
		{"verifying", 20},
		{"notify", 5},
		{"open", 7},
		{"suspect", 3600},
		{"open", 1},
	} {
		at += step.after * time.Second
		f.entersPhase(at, step.phase)
	}
	want := map[string]time.Duration{
		"suspect": 3 * time.Second, "fencing": time.Second, "choosing": 4 * time.Second, "running": 20 * time.Second, "verifying": 5 * time.Second,
	}
	if !maps.Equal(f.lasted, want) {
		t.Errorf("%v, want %v", f.lasted, want)
	}
}
