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

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// broken makes everything that background does panic.
func broken(w *world) {
	w.s.env.start = func(startSpec) (*started, error) { panic("start") }
	w.s.env.dial = func(context.Context, string) (*started, error) { panic("dial") }
	w.s.env.lookup = func(context.Context, string) ([]string, error) { panic("lookup") }
	w.s.env.relock = func(*os.File) (bool, error) { panic("relock") }
	w.s.env.writeRecord = func(string, []byte) error { panic("record") }
	w.s.env.appendHistory = func(string, []byte) error { panic("history") }
}

// Whoever waits for an operation that panics is told that it has failed.
func TestOperationThatPanicsFailsForWhoWaitsForIt(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, 2)
	w.up()
	w.s.log = logline.New(&log, "", slog.LevelDebug, "p")
	broken(w)

	w.act(failover.Probe{Server: 1, ID: 8, Timeout: time.Second}) // its name is looked up first
	w.settle()
	if got := eventsOf[failover.ProbeDone](w); len(got) != 1 || got[0].Outcome != failover.SawNoAddress {
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
	w.die(w.children[0])
	w.advance(time.Second)
	for _, what := range []string{"lookup", "record", "history", "start"} {
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
	w.s.linkRunner()
	w.advance(3 * restartMax)
	if tries < 2 || w.s.runner.failures < 2 {
		t.Errorf("%d tries for the lock, %d for the runner", tries, w.s.runner.failures)
	}
}

// A panic in the loop ends the supervisor, but not before its workers have ended.
func TestPanicInTheLoopEndsTheWorkersFirst(t *testing.T) {
	var log bytes.Buffer
	s, _, _, end := logging(t, logline.New(&log, "", slog.LevelInfo, "p"))
	var pids []int
	pgtest.WaitUntil(t, limit, "two workers and the prober", func() bool {
		pids = fromLoop(t, s, s.childIDs)
		return len(pids) == 3
	})
	s.post(func() { panic("a bug in the loop") })
	wait(t, s.ended, "the end")
	for _, pid := range pids {
		if proc.ProcessAlive(pid) {
			t.Errorf("child %d outlives the loop", pid)
		}
	}
	if err := end(); !errors.Is(err, logline.ErrPanic) {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(log.String(), `panic="a bug in the loop"`) || !strings.Contains(log.String(), "elsewhere_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log.String())
	}
}
