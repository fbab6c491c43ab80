package supervisor

import (
	"slices"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// succeed brings up a worker in the place of the first one, which has a client with id 1,
// and returns both.
func succeed(t *testing.T, change ...func(*config.Config)) (w *world, old, next *fakeChild) {
	t.Helper()
	w = newWorld(t, 1, change...)
	w.up()
	old = w.children[0]
	w.letIn(old)
	w.s.replaceWorker(w.s.workers.slots[0].child)
	w.settle()
	next = w.children[1]
	if got := w.s.leastLoaded(); got == nil || got.index != 0 {
		t.Fatal("the old worker serves nobody although there is no other one yet")
	}
	w.hello(next)
	return w, old, next
}

func TestRetiredWorkerKeepsItsClientsAndEndsWithTheLast(t *testing.T) {
	w, old, next := succeed(t)
	w.letIn(next)
	w.letIn(next) // it has more clients now
	if got := w.s.leastLoaded(); got == nil || got.index != 1 {
		t.Error("the next client doesn't go to the new worker")
	}
	w.live(10 * time.Minute)
	if len(messagesOf[*ipc.Drain](old)) > 0 || old.killed {
		t.Fatal("a retired worker that has a client is ended")
	}
	w.say(old, &ipc.ClientsGone{IDs: []uint64{1}})
	if len(messagesOf[*ipc.Drain](old)) != 1 {
		t.Fatal("a retired worker without a client isn't told to end")
	}
	w.say(old, &ipc.Drained{})
	if !old.closed {
		t.Error("the link of the drained worker stays open")
	}
	w.die(old)
	w.live(time.Minute)
	if len(w.children) != 2 || next.killed {
		t.Errorf("%d workers were started", len(w.children))
	}
	w.s.replaceWorker(w.s.workers.slots[1].child)
	w.settle()
	if w.children[2].spec.index != 0 || w.s.workers.slots[0].place != 0 {
		t.Error("the free slot isn't used again")
	}
}

func TestRetiredWorkerEndsAtItsLimit(t *testing.T) {
	w, old, _ := succeed(t, func(c *config.Config) { c.UpgradeTimeout = time.Minute })
	w.live(59 * time.Second)
	if len(messagesOf[*ipc.Drain](old)) > 0 {
		t.Fatal("ended before its limit")
	}
	w.live(2 * time.Second)
	if all := messagesOf[*ipc.Pass](old); len(all) == 0 || !all[len(all)-1].Leave {
		t.Error("clients that aren't in a transaction aren't disconnected at the limit")
	}
	w.live(partGrace)
	if len(messagesOf[*ipc.Drain](old)) != 1 {
		t.Error("not ended at its limit")
	}
	w.live(10 * time.Second)
	if !old.killed {
		t.Error("a retired worker that doesn't end lives on")
	}
}

func TestReloadLeavesRetiredWorkersAlone(t *testing.T) {
	w, old, next := succeed(t)
	before := len(old.sent)
	w.s.startReload(func(control.ReloadResponse, error) {})
	w.settle()
	w.s.tellGeneration()
	isConfig := func(m ipc.Message) bool {
		switch m.(type) {
		case *ipc.ConfigBegin, *ipc.ConfigCommit:
			return true
		}
		return false
	}
	if slices.ContainsFunc(old.sent[before:], isConfig) {
		t.Error("a retired worker gets a configuration")
	}
	if !slices.ContainsFunc(next.sent, isConfig) {
		t.Error("this test shows nothing: nobody got one")
	}
}

func TestDeadRetiredWorkerIsNotStartedAgain(t *testing.T) {
	w, old, _ := succeed(t)
	w.die(old)
	w.live(time.Minute)
	if len(w.children) != 2 {
		t.Errorf("%d workers were started", len(w.children))
	}
}
