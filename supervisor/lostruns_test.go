package supervisor

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func TestInheritedRunIsOverWhenTheLockIsOurs(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.s.runner.inherits.id = "old"
	w.lockHeld = true
	w.s.startLock()
	w.s.startServers()
	w.runnerUp()
	w.advance(time.Second)
	if len(eventsOf[failover.RunGroupEmpty](w))+len(eventsOf[failover.RunsAllowed](w)) != 0 {
		t.Fatal("over although the lock is held")
	}
	w.lockHeld = false
	w.advance(lockRetry)
	if len(eventsOf[failover.RunGroupEmpty](w)) != 1 {
		t.Error("never over")
	}
	if diff := cmp.Diff([]failover.RunsAllowed{{Allowed: true}}, eventsOf[failover.RunsAllowed](w)); diff != "" {
		t.Error(diff)
	}
}

// The lock says that the runner is gone, not that its script is.
func TestInheritedRunIsNotOverBeforeTheRunnerSaysSo(t *testing.T) {
	for name, form := range map[string]func(*config.Config){"spawned": withFailover, "service": withService} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0, form)
			w.s.runner.inherits.id = "old"
			w.s.startLock()
			w.s.startServers()
			w.s.linkRunner()
			w.advance(lockRetry)
			if len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
				t.Fatal("over although no runner has said so")
			}
			r := w.runnerReady(&ipc.RunnerReady{Running: "old"})
			if len(eventsOf[failover.RunnerUp](w)) != 1 || len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
				t.Fatal("over although it runs, or the runner is held to be unusable")
			}
			w.say(r, &ipc.RunEnded{RunID: "old", Exit: -1, Unknown: true})
			if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "old"}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
				t.Error(diff)
			}
			if len(eventsOf[failover.RunEnded](w)) != 0 {
				t.Error("an unknown end is told as a known one")
			}
		})
	}
}

func TestRunnerWithoutAConfigurationSaysNothingAboutARunBefore(t *testing.T) {
	w := newWorld(t, 0, withService)
	w.s.runner.inherits.id = "old"
	w.s.linkRunner()
	w.settle()
	r := w.runnerReady(&ipc.RunnerReady{Error: "no such file"})
	if len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
		t.Fatal("over although the runner can't know")
	}
	r.ended(io.EOF)
	w.settle()
	w.advance(time.Second)
	w.runnerReady(&ipc.RunnerReady{})
	if len(eventsOf[failover.RunGroupEmpty](w)) != 1 {
		t.Error("never over")
	}
}

func TestInheritedRunIsOverWhereNoScriptRunsAnyMore(t *testing.T) {
	w := newWorld(t, 0, func(c *config.Config) { withService(c); c.Failover = false })
	w.s.dir.Ours = true
	w.s.runner.inherits.id = "old"
	w.s.startServers()
	w.s.linkRunner()
	w.settle()
	if len(eventsOf[failover.RunGroupEmpty](w)) != 1 {
		t.Error("never over")
	}
}

func TestRunThatAnotherRunnerHasTakenOverIsLeftToIt(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	w.settle()
	w.advance(time.Second)
	r = w.runnerReady(&ipc.RunnerReady{Running: "r"})
	w.groupEmpty = true // of the group alone; the runner sees the session too
	w.advance(2 * time.Minute)
	if n := len(eventsOf[failover.RunGroupEmpty](w)); n != 0 || len(w.signals) != 0 {
		t.Fatalf("told %d times that it is over, %d signals", n, len(w.signals))
	}
	w.say(r, &ipc.RunEnded{RunID: "r", Exit: -1, Unknown: true})
	if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "r"}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
		t.Error(diff)
	}
}

func TestRunOfARunnerOfOursNeedsMoreThanTheWordOfTheNextOne(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	r.exited("signal: killed")
	w.groupEmpty, w.strangers = true, true
	w.advance(time.Second)
	r = w.runnerReady(&ipc.RunnerReady{Running: "r"})
	w.say(r, &ipc.RunEnded{RunID: "r", Exit: -1, Unknown: true})
	if len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
		t.Fatal("over although something unknown is a child of ours")
	}
	w.strangers = false
	w.advance(groupLook)
	if len(eventsOf[failover.RunGroupEmpty](w)) != 1 {
		t.Error("never over")
	}
}

func TestRunThatIsNotInTheRecordKeepsTheRunnerBusyAndIsToldOf(t *testing.T) {
	w := newWorld(t, 0, withService)
	w.s.linkRunner()
	w.settle()
	r := w.runnerReady(&ipc.RunnerReady{Running: "foreign"})
	want := []failover.RunnerDown{{Reason: "run foreign of an earlier pgagroal has not ended"}}
	if diff := cmp.Diff(want, eventsOf[failover.RunnerDown](w)); diff != "" {
		t.Fatal(diff)
	}
	w.say(r, &ipc.RunEnded{RunID: "foreign"})
	if len(eventsOf[failover.RunnerUp](w)) != 1 {
		t.Error("never up")
	}
}

func TestRunThatMayHaveProcessesIsTakenFromTheRecord(t *testing.T) {
	for _, c := range []struct {
		saved *failover.Record
		want  string
	}{
		{nil, ""},
		{&failover.Record{}, ""},
		{&failover.Record{Run: &failover.RunRecord{ID: "a", Phase: "started"}, Blocker: "b"}, "a"},
		{&failover.Record{Run: &failover.RunRecord{ID: "a", Phase: "ended"}}, ""},
		// A notification that was lost after the run that is recorded.
		{&failover.Record{Run: &failover.RunRecord{ID: "a", Phase: "ended"}, Blocker: "b"}, "b"},
	} {
		if got := underWay(c.saved); got != c.want {
			t.Errorf("%+v: %q, want %q", c.saved, got, c.want)
		}
	}
}

// TestALeftoverThatHoldsTheLockIsNamed, as long as it does, and not before the children of a killed supervisor have had
// their time.
func TestALeftoverThatHoldsTheLockIsNamed(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.lockHeld, w.lockedBy = true, []proc.Process{{PID: os.Getpid()}}
	w.s.startLock()
	w.s.startServers()
	w.advance(lockLate - time.Millisecond)
	if told := eventsOf[failover.RunsAllowed](w); len(told) != 0 {
		t.Errorf("%v at once", told)
	}
	w.advance(lockRetry)
	told := eventsOf[failover.RunsAllowed](w)
	if len(told) != 1 || told[0].Allowed || !strings.Contains(told[0].Holder, fmt.Sprintf("process %d (", os.Getpid())) {
		t.Fatalf("told %v, want the process", told)
	}
	w.lockHeld = false
	w.advance(2 * lockLate)
	told = eventsOf[failover.RunsAllowed](w)
	if len(told) != 2 || !told[1].Allowed {
		t.Errorf("told %v, want that scripts may run, once", told)
	}
}
