package supervisor

import (
	"context"
	"errors"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// A worker that dies just before the fence has its queries cancelled by us; that
// must not reach the old primary afterwards.
func TestFenceStopsOurOwnCancelRequestsFirst(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	stopped := errors.New("not asked")
	w.s.env.cancel = func(ctx context.Context, _, _ string, _ uint32, _ []byte) error {
		stopped = ctx.Err()
		return stopped
	}
	var held []func() func()
	outside := w.s.env.background
	read := false // of the dead worker's link, which comes first
	w.s.env.background = func(job func() func()) {
		if !read {
			read = true
			outside(job)
			return
		}
		held = append(held, job)
	}
	orphan(w)
	w.s.env.background = outside
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Fatalf("%d reports of a fence that a cancel request of ours can still cross", n)
	}
	for _, job := range held {
		if done := job(); done != nil {
			done()
		}
	}
	if !errors.Is(stopped, context.Canceled) {
		t.Errorf("the request ended with %v", stopped)
	}
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d reports of the fence", n)
	}
}

// The end of a failover grants every backend there may be at once.
func TestQueueOfAWorkerHoldsAGrantForEachBackend(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) { c.MaxConnections = 5000 })
	w.up()
	if n := w.children[0].spec.queue; n < queueLimit+5000 {
		t.Errorf("the queue holds %d messages", n)
	}
}
