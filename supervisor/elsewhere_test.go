package supervisor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/prober/health"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// broken makes everything that background does panic.
func broken(w *world) {
	w.s.env.start = func(startSpec) (*started, error) { panic("start") }
	w.s.env.dial = func(context.Context, string) (*started, error) { panic("dial") }
	w.s.env.lookup = func(context.Context, string) ([]string, error) { panic("lookup") }
	w.s.env.probe = func(context.Context, health.Target) failover.ProbeDone { panic("probe") }
	w.s.env.backends = func(context.Context, health.Target, []uint32) ([]uint32, error) { panic("backends") }
	w.s.env.settings = func(context.Context, health.Target, []string) (map[string]string, error) { panic("settings") }
	w.s.env.cancel = func(context.Context, string, string, uint32, []byte) error { panic("cancel") }
	w.s.env.relock = func(*os.File) (bool, error) { panic("relock") }
	w.s.env.writeRecord = func(string, []byte) error { panic("record") }
	w.s.env.appendHistory = func(string, []byte) error { panic("history") }
}

// Who waits for an operation that panics is told that it has failed.
func TestOperationThatPanicsFailsForWhoWaitsForIt(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, 2, withProbeUser)
	w.up()
	w.s.log = logline.New(&log, "", slog.LevelDebug, "p")
	broken(w)

	w.act(failover.Probe{Server: 0, ID: 7, Timeout: time.Second})
	w.settle()
	if got := eventsOf[failover.ProbeDone](w); len(got) != 1 || got[0].ID != 7 || got[0].Outcome != failover.SawNoAddress || got[0].Code != "internal error" {
		t.Errorf("probe: %+v", got)
	}
	w.act(failover.Probe{Server: 1, ID: 8, Timeout: time.Second}) // its name is looked up first
	w.settle()
	if got := eventsOf[failover.ProbeDone](w); len(got) != 2 || got[1].Outcome != failover.SawNoAddress {
		t.Errorf("lookup: %+v", got)
	}
	w.act(failover.Save{Seq: 3, Record: failover.Record{}})
	w.settle()
	if got := eventsOf[failover.SaveDone](w); len(got) != 1 || !errors.Is(got[0].Err, logline.ErrPanic) {
		t.Errorf("save: %+v", got)
	}
	w.act(failover.History{Entry: failover.HistoryEntry{Kind: "x"}})
	w.settle()
	if w.s.history.busy || !w.s.history.failed {
		t.Errorf("history: %+v", w.s.history)
	}
	var settings *control.RehearsalResponse
	w.s.rehearse(&rehearsal{Rehearsal: &failover.Rehearsal{}, done: func(r control.RehearsalResponse, _ error) { settings = &r }})
	w.settle()
	if settings == nil {
		t.Error("the rehearsal waits for settings that never come")
	}
	orphan(w)
	if n := len(w.s.cancels.orphans); n != 0 {
		t.Errorf("%d cancel requests are under way", n)
	}
	w.advance(time.Second)
	for _, what := range []string{"probe", "lookup", "record", "history", "settings", "cancel", "start", "backends"} {
		if !strings.Contains(log.String(), "internal error panic="+what) {
			t.Errorf("the panic of %s isn't in the log", what)
		}
	}
	w.s.env.start = w.start
	w.advance(restartMax)
	w.hello(w.children[len(w.children)-1])
	if w.s.readyCount() != 2 {
		t.Error("the dead worker wasn't started again")
	}
}

func TestLockAndRunnerAreTriedAgainAfterAPanic(t *testing.T) {
	w := newWorld(t, 1, withFailover)
	broken(w)
	tries := 0
	w.s.env.relock = func(*os.File) (bool, error) { tries++; panic("relock") }
	w.s.startLock()
	w.s.startRunner()
	w.advance(3 * restartMax)
	if tries < 2 || w.s.runner.failures < 2 {
		t.Errorf("%d tries for the lock, %d for the runner", tries, w.s.runner.failures)
	}
}

// A panic in the loop ends the supervisor, but not before its workers have ended.
func TestPanicInTheLoopEndsTheWorkersFirst(t *testing.T) {
	var log bytes.Buffer
	s, _, _, end := logging(t, logline.New(&log, "", slog.LevelInfo, "p"))
	pids := fromLoop(t, s, s.childIDs)
	if len(pids) != 2 {
		t.Fatalf("children: %v", pids)
	}
	s.post(func() { panic("a bug in the loop") })
	wait(t, s.ended, "the end")
	for _, pid := range pids {
		if proc.ProcessAlive(pid) {
			t.Errorf("worker %d outlives the loop", pid)
		}
	}
	if err := end(); !errors.Is(err, logline.ErrPanic) {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(log.String(), `panic="a bug in the loop"`) || !strings.Contains(log.String(), "elsewhere_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log.String())
	}
}
