package supervisor

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// When a worker dies just before the fence, the supervisor cancels its queries. These
// cancel requests must not reach the old primary after the fence.
func TestFenceStopsOurOwnCancelRequestsFirst(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.prober.mute = true
	orphan(w)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Fatalf("%d reports of a fence that a cancel request of ours can still cross", n)
	}
	asked, stopped := sentTo[*ipc.ServerCancel](w.prober), sentTo[*ipc.ServerCancelStop](w.prober)
	if len(asked) != 1 || len(stopped) != 1 || stopped[0].ID != asked[0].ID {
		t.Fatalf("asked for %d, stopped %d", len(asked), len(stopped))
	}
	w.prober.message(&ipc.ServerCancelDone{ID: asked[0].ID, Error: "context canceled"})
	w.settle()
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d reports of the fence", n)
	}
}

// A prober that doesn't answer is killed, and the end of its process is what proves that
// the cancel request is gone.
func TestFenceWaitsForTheEndOfAProberWithACancelRequest(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.prober.mute = true
	orphan(w)
	first := w.prober
	first.undead = true
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
	w.advance(cancelLimit + lookGrace)
	if n := len(eventsOf[failover.Fenced](w)); n != 0 || !first.killed {
		t.Fatalf("%d reports of the fence, killed: %v", n, first.killed)
	}
	first.exited("signal: killed")
	w.settle()
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d reports of the fence", n)
	}
}

// A request that was never sent is withdrawn, and crosses no fence.
func TestFenceWithdrawsCancelRequestsThatWaitForAProber(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.s.servers.prober.end.up = false
	orphan(w)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
	w.advance(time.Millisecond)
	w.s.servers.prober.end.up = true
	w.s.sendLooks()
	if n := len(eventsOf[failover.Fenced](w)); n != 1 || len(w.canceled) != 0 {
		t.Errorf("%d reports of the fence, %d requests at the server", n, len(w.canceled))
	}
}

// The end of a failover may grant all possible backends at once.
func TestQueueOfAWorkerHoldsAGrantForEachBackend(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) { c.MaxConnections = 5000 })
	w.up()
	if n := w.children[0].spec.queue; n < queueLimit+5000 {
		t.Errorf("the queue holds %d messages", n)
	}
}
