package supervisor

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestDeadlinesWaitForWhatWasSaidWhileThisProcessWasStopped(t *testing.T) {
	w := newWorld(t, 0)
	w.s.after(time.Second, func() {})
	if w.now += 2 * time.Second; w.s.justWoke() {
		t.Fatal("a busy machine counts as a stop")
	}
	w.now += time.Minute
	if !w.s.justWoke() || w.s.untilNext() != wakeRest {
		t.Fatalf("after a stop the next deadline is looked at after %v", w.s.untilNext())
	}
	w.now += wakeRest
	if w.s.justWoke() {
		t.Fatal("it rests for ever")
	}
	w.s.timers.run(w.now)
	if w.s.justWoke() {
		t.Error("it rests without a reason")
	}
}

func TestAWorkerIsNotBlamedForAStopOfTheSupervisor(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.advance(pingInterval)
	c := w.children[0]
	w.say(c, &ipc.Pong{})
	w.now += time.Hour
	w.s.timers.run(w.now)
	if c.killed {
		t.Fatal("killed although it had answered everything")
	}
	w.advance(pongLimit - pingInterval - time.Second)
	if c.killed {
		t.Error("killed before its time")
	}
	w.advance(2 * pingInterval)
	if !c.killed {
		t.Error("a worker that doesn't answer lives")
	}
}
