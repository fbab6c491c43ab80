package worker

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// storm is how many messages the worker needs several goes for.
const storm = 3 * receiveMax

// pings sends a storm.
func (r *rig) pings() {
	r.t.Helper()
	for id := range uint64(storm) {
		r.send(&ipc.Ping{ID: id})
	}
}

// pongs waits until all of a storm is answered.
func (r *rig) pongs() {
	r.t.Helper()
	for id := range uint64(storm) {
		if m := expect[*ipc.Pong](r); m.ID != id {
			r.t.Fatalf("answer to %d, want that to %d", m.ID, id)
		}
	}
}

// Nothing tells the worker again of what it has left in the link.
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

// Its descriptor stays readable, so that whoever polls it must be told to stop.
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

// What comes behind a bad packet, for one, isn't for a worker that has given up.
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
