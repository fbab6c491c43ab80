package worker

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// storm is so many messages that the worker needs several turns for them.
const storm = 3 * receiveMax

// pings sends a storm.
func (r *rig) pings() {
	r.t.Helper()
	for id := range uint64(storm) {
		r.send(&ipc.Ping{ID: id})
	}
}

// pongs waits until all pings of a storm are answered.
func (r *rig) pongs() {
	r.t.Helper()
	for id := range uint64(storm) {
		if m := expect[*ipc.Pong](r); m.ID != id {
			r.t.Fatalf("answer to %d, want that to %d", m.ID, id)
		}
	}
}

// There is no new event for messages that the worker has left in the link, so it must come
// back for them itself.
func TestAllOfAStormOfMessagesIsServed(t *testing.T) {
	r := newRig(t, pooling())
	busy, sent := make(chan struct{}), make(chan struct{})
	r.w.loop.Post(func() {
		close(busy)
		<-sent
	})
	wait(t, busy, "the loop")
	r.pings()
	close(sent)
	r.pongs()
}

func TestAStormOfMessagesLeavesOthersTheirTurn(t *testing.T) {
	r := newRig(t, pooling())
	r.do(func() {
		r.pings()
		if !r.w.receive() {
			t.Error("the link has ended")
		}
		env, err := r.w.conn.TryReceive()
		if err != nil {
			t.Errorf("nothing of a storm is left after one go: %v", err)
			return
		}
		r.w.dispatch(env)
	})
	r.pongs()
}

// The descriptor of an ended link stays readable, so receive must tell the loop to stop
// polling it.
func TestReceiveEndsWithTheLink(t *testing.T) {
	r := newRig(t, pooling())
	r.do(func() {
		if !r.w.receive() {
			t.Error("it has ended before the link")
		}
		r.send(&ipc.Ping{ID: 1})
		r.sup.Close()
		if r.w.receive() {
			t.Error("it wants more of a link that has ended")
		}
		if r.w.exit == 0 {
			t.Error("the worker goes on without a supervisor")
		}
	})
}

// A worker that has given up, for example after a bad packet, must not handle later messages.
func TestAWorkerWithoutASupervisorTakesNothingMore(t *testing.T) {
	r := newRig(t, pooling())
	r.do(func() {
		r.w.exit = 1
		r.send(&ipc.Ping{ID: 1})
		if r.w.receive() {
			t.Error("it wants more")
		}
		if env, err := r.w.conn.TryReceive(); err != nil {
			t.Errorf("it has taken a message: %v, %v", env, err)
		}
	})
}
