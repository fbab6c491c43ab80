package supervisor

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// asked starts a round with all workers of a world and counts its ends.
func asked(w *world, limit time.Duration) (r *round, ends *int) {
	ends = new(int)
	r = w.s.newRound(limit, func() { *ends++ })
	w.s.ask(r, w.s.everyReady(), &ipc.ReportRequest{ID: r.id})
	return r, ends
}

func (w *world) childAt(i int) *child { return w.s.workers.slots[i].child }

func TestRoundEndsOnceWithTheLastAnswerOrDeath(t *testing.T) {
	w := newWorld(t, 3)
	w.up()
	dead := w.childAt(2)
	r, ends := asked(w, time.Minute)
	w.s.answered(r, w.childAt(0))
	w.s.answered(r, w.childAt(0))
	w.die(w.children[2])
	if *ends != 0 || !r.awaits(w.childAt(1)) || r.awaits(dead) || r.awaits(w.childAt(0)) {
		t.Fatalf("%d ends, missing %v", *ends, r.missing)
	}
	w.s.answered(r, w.childAt(1))
	w.advance(2 * time.Minute)
	w.die(w.children[0])
	if *ends != 1 || len(w.s.rounds.open) != 0 {
		t.Errorf("%d ends, %d rounds open", *ends, len(w.s.rounds.open))
	}
}

func TestRoundEndsAtItsLimitAndSaysWhoIsMissing(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	r, ends := asked(w, time.Second)
	w.s.answered(r, w.childAt(0))
	w.advance(time.Second)
	if *ends != 1 || len(r.missing) != 1 || !r.awaits(w.childAt(1)) {
		t.Errorf("%d ends, missing %v", *ends, r.missing)
	}
}

func TestRoundEndsWithTheDeathOfItsAsker(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	r, ends := asked(w, time.Minute)
	r.asker = w.childAt(0)
	delete(r.missing, r.asker)
	w.die(w.children[0])
	if *ends != 1 || !r.awaits(w.childAt(1)) {
		t.Errorf("%d ends, missing %v", *ends, r.missing)
	}
}

func TestRoundThatIsDroppedNeverEnds(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	r, ends := asked(w, time.Second)
	if !w.s.dropRound(r) || w.s.dropRound(r) || w.s.dropRound(nil) {
		t.Fatal("it was not dropped once")
	}
	w.advance(time.Minute)
	w.s.answered(r, w.childAt(0))
	if *ends != 0 {
		t.Errorf("%d ends", *ends)
	}
}

func TestRoundOfNobodyEndsAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	if _, ends := asked(w, time.Minute); *ends != 1 {
		t.Errorf("%d ends", *ends)
	}
}

// A round that begins at the end of another one, on a death, doesn't wait for the dead.
func TestRoundThatFollowsADeathDoesNotWaitForTheDead(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	var next *round
	first := w.s.newRound(time.Minute, func() {
		next = w.s.newRound(time.Minute, func() {})
		w.s.ask(next, w.s.everyReady(), &ipc.ReportRequest{ID: next.id})
	})
	w.s.ask(first, []*child{w.childAt(0)}, &ipc.ReportRequest{ID: first.id})
	w.die(w.children[0])
	if next == nil || len(next.missing) != 1 || !next.awaits(w.childAt(1)) {
		t.Fatalf("the next round: %+v", next)
	}
}

func TestReportGoesOnWithoutAWorkerThatDies(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	var got *report
	w.s.askReports(false, func(r *report) { got = r })
	id := messagesOf[*ipc.ReportRequest](w.children[0])[0].ID
	w.say(w.children[0], &ipc.Report{ID: id})
	w.say(w.children[0], &ipc.ReportEnd{ID: id})
	if got != nil {
		t.Fatal("it didn't wait for the other worker")
	}
	w.die(w.children[1])
	if got == nil || len(got.workers) != 1 || len(w.s.rounds.reports) != 0 {
		t.Errorf("%+v", got)
	}
}
