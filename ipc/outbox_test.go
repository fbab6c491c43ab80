package ipc

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// never is a stall limit that no test reaches; limit bounds every wait.
const (
	never = time.Hour
	limit = 30 * time.Second
)

// idleOutbox is an Outbox whose writer doesn't run: its queue can be looked at.
func idleOutbox(t *testing.T, size int) *Outbox {
	t.Helper()
	c, _ := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	return busyOutbox(c, size)
}

// busyOutbox is an Outbox whose writer has a message in hand, with the test in its place.
func busyOutbox(c *Conn, size int) *Outbox {
	return &Outbox{conn: c, writing: true, limit: size, stall: never, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func wantID(t *testing.T, c *Conn, id uint64) {
	t.Helper()
	env, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&ReclaimCancel{ID: id}, env.Message); diff != "" {
		t.Fatal(diff)
	}
}

func queued(o *Outbox) []Message {
	var all []Message
	for _, q := range o.queue {
		all = append(all, q.Message)
	}
	return all
}

func awaitDone(t *testing.T, o *Outbox) {
	t.Helper()
	select {
	case <-o.Done():
	case <-time.After(limit):
		t.Fatal("the writer didn't end")
	}
}

// watchedFD returns a descriptor to send and a function that reports whether all
// copies of it are closed.
func watchedFD(t *testing.T) (int, func() bool) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]) })
	return p[1], func() bool {
		n, err := unix.Read(p[0], make([]byte, 1))
		return n == 0 && err == nil
	}
}

func TestOutboxKeepsTheOrder(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	o := NewOutbox(a, 1000, never, func(err error) { t.Error(err) })
	for id := range uint64(500) {
		if err := o.Send(&ReclaimCancel{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range uint64(500) {
		wantID(t, b, id)
	}
	o.Close()
	awaitDone(t, o)
}

// Even where the socket has room by then.
func TestNothingOvertakesWhatTheWriterHasInHand(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	o := busyOutbox(a, 10)
	o.fail = func(err error) { t.Error(err) }
	if err := o.Send(&ReclaimCancel{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if err := o.write(Envelope{Message: &ReclaimCancel{ID: 0}}); err != nil {
		t.Fatal(err)
	}
	go o.run()
	wantID(t, b, 0)
	wantID(t, b, 1)
	o.Close()
	awaitDone(t, o)
}

// awaitState waits until so many messages are queued, and the writer has one in hand or
// hasn't.
func awaitState(t *testing.T, o *Outbox, waiting int, writing bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); ; {
		o.mu.Lock()
		n, w := len(o.queue), o.writing
		o.mu.Unlock()
		if n == waiting && w == writing {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%d messages wait and writing is %v, want %d and %v", n, w, waiting, writing)
		}
	}
}

// The socket has room for a message before it wakes a writer that waits: what is sent
// then waits behind what the writer has in hand.
func TestOutboxKeepsTheOrderWhereTheReaderStartsAndStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	defer time.AfterFunc(limit, func() { a.Close() }).Stop() // ends whatever hangs
	o := NewOutbox(a, 1000, never, func(err error) { t.Error(err) })
	var sent, received uint64
	send := func() {
		t.Helper()
		if err := o.Send(&ReclaimCancel{ID: sent}); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	receive := func() {
		t.Helper()
		wantID(t, b, received)
		received++
	}
	for range 20 {
		awaitState(t, o, 0, false)
		for waits := false; !waits; {
			send()
			o.mu.Lock()
			waits = len(o.queue) > 0 || o.writing
			o.mu.Unlock()
		}
		awaitState(t, o, 0, true)
		for range 300 { // more than the socket holds
			receive()
			send()
		}
		for received < sent {
			receive()
		}
	}
	o.Close()
	awaitDone(t, o)
}

func TestOutboxNeverBlocksAndIsBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	c, _ := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	failed := make(chan error, 2)
	o := NewOutbox(c, 10, never, func(err error) { failed <- err })
	// The peer never reads: 20000 messages are more than socket and queue hold.
	full := 0
	for id := range uint64(20000) {
		switch err := o.Send(&ReclaimCancel{ID: id}); {
		case errors.Is(err, ErrQueueFull):
			full++
		case err != nil:
			t.Fatal(err)
		}
		if n := o.Len(); n > 10 {
			t.Fatalf("%d messages wait, the limit is 10", n)
		}
	}
	if full == 0 {
		t.Error("the queue was never full")
	}
	c.Close()
	awaitDone(t, o)
	if err := <-failed; !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("error %v, want that of a closed Conn", err)
	}
	if err := o.Send(&ReclaimCancel{}); !errors.Is(err, ErrQueueFull) || o.Len() > 11 {
		t.Errorf("after the end: error %v, %d wait", err, o.Len())
	}
	o.Close()
	if err := o.Send(&ReclaimCancel{}); err != nil || o.Len() != 0 {
		t.Errorf("after Close: error %v, %d wait", err, o.Len())
	}
	if len(failed) > 0 {
		t.Errorf("fail was called twice: %v", <-failed)
	}
}

func TestOutboxEndsWhenThePeerStalls(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	failed := make(chan error, 1)
	o := NewOutbox(a, 20000, 20*time.Millisecond, func(err error) { failed <- err })
	const messages = 20000
	for id := range uint64(messages) {
		if err := o.Send(&ReclaimCancel{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	awaitDone(t, o)
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v, want a time-out", err)
	}
	// Nothing is lost: what the peer has to read and what wasn't sent are all of them.
	unsent := o.Unsent()
	if len(unsent) == 0 {
		t.Fatal("nothing is unsent")
	}
	for id := range uint64(messages) {
		var m Message
		if first := uint64(messages - len(unsent)); id < first {
			env, err := b.Receive()
			if err != nil {
				t.Fatal(err)
			}
			m = env.Message
		} else {
			m = unsent[id-first].Message
		}
		if diff := cmp.Diff(&ReclaimCancel{ID: id}, m); diff != "" {
			t.Fatal(diff)
		}
	}
}

// What was sent to a process that died before it read it is there, whether our end is
// still open or was closed with something of the process in it.
func TestWhatADeadChildHasNotReadIsKept(t *testing.T) {
	for _, closed := range []bool{false, true} {
		ours, child, theirs := keptPair(t, RoleSupervisor, RoleWorker)
		ours.SetPhase(PhaseRunning)
		fd, gone := watchedFD(t)
		if err := errors.Join(ours.Send(&NewClient{ID: 7, Address: "a"}, fd), ours.Send(&Ping{ID: 8}), child.Send(&WorkerHello{})); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		child.sock.Close() // as at its death: nobody says goodbye
		if closed {
			ours.Close()
		}
		all, err := ours.Unread(theirs)
		if err != nil || len(all) != 2 {
			t.Fatalf("our end is closed: %v; %d messages are left and %v, want 2", closed, len(all), err)
		}
		if diff := cmp.Diff([]Message{&NewClient{ID: 7, Address: "a"}, &Ping{ID: 8}}, []Message{all[0].Message, all[1].Message}); diff != "" {
			t.Error(diff)
		}
		if len(all[0].FDs) != 1 || gone() {
			t.Fatalf("%d descriptors", len(all[0].FDs))
		}
		all[0].CloseFDs()
		if !gone() {
			t.Error("a copy of the descriptor is open")
		}
	}
}

func TestCloseEndsALinkOfWhichACopyIsOpen(t *testing.T) {
	ours, child, _ := keptPair(t, RoleSupervisor, RoleWorker)
	if err := errors.Join(child.Send(&WorkerHello{PID: 9}), child.Close(), ours.SetDeadline(time.Now().Add(limit))); err != nil {
		t.Fatal(err)
	}
	if env, err := ours.Receive(); err != nil || env.Message.(*WorkerHello).PID != 9 {
		t.Fatalf("got %v and %v", env, err)
	}
	if _, err := ours.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want the end", err)
	}
}

func TestOutboxEndsWhenThePeerIsGone(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	failed := make(chan error, 1)
	o := NewOutbox(a, 10, never, func(err error) { failed <- err })
	b.Close()
	if err := o.Send(&ReclaimCancel{}); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, o)
	if err := <-failed; !errors.Is(err, unix.EPIPE) {
		t.Errorf("error %v, want EPIPE", err)
	}
}

func TestOutboxCloseEndsAnIdleWriter(t *testing.T) {
	defer goleak.VerifyNone(t)
	c, _ := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	o := NewOutbox(c, 10, never, func(err error) { t.Error(err) })
	o.Close()
	o.Close()
	awaitDone(t, o)
	if err := c.Send(&ReclaimCancel{}); err != nil {
		t.Errorf("the Conn was closed too: %v", err)
	}
}

func TestOutboxLeavesNoDeadlineBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	const stall = 3 * time.Second // long enough for one write on a busy machine
	o := NewOutbox(a, 10, stall, func(err error) { t.Error(err) })
	sent := 0
	for ; o.Len() == 0; sent++ { // until the socket is full and the goroutine writes
		if err := o.Send(&ReclaimCancel{ID: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for range sent {
		if _, err := b.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	o.Close()
	awaitDone(t, o)
	<-time.After(stall + stall/10) // the deadline of the write passes
	if err := a.Send(&ReclaimCancel{ID: 2}); err != nil {
		t.Errorf("a later Send: %v", err)
	}
}

func TestOutboxReplacesAnOlderSnapshot(t *testing.T) {
	o := idleOutbox(t, 4)
	for _, m := range []Message{
		&ServerState{Gen: 1}, &ReclaimCancel{ID: 1}, &ServerState{Gen: 2}, &Fence{Epoch: 3},
		&Ping{ID: 1}, &ServerState{Gen: 3}, &ReclaimCancel{ID: 2}, &Ping{ID: 2}, &ServerState{Gen: 4},
	} {
		err := o.Send(m)
		if mark, ok := m.(*ReclaimCancel); ok && mark.ID == 2 {
			if !errors.Is(err, ErrQueueFull) {
				t.Errorf("fifth message: error %v", err)
			}
		} else if err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	want := []Message{&ReclaimCancel{ID: 1}, &Fence{Epoch: 3}, &Ping{ID: 2}, &ServerState{Gen: 4}}
	if diff := cmp.Diff(want, queued(o)); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}
}

func TestOutboxClosesTheDescriptorsOfWhatItDrops(t *testing.T) {
	o := idleOutbox(t, 1)
	waits, waitsClosed := watchedFD(t)
	if err := o.Send(&NewClient{ID: 1}, waits); err != nil {
		t.Fatal(err)
	}
	full, fullClosed := watchedFD(t)
	if err := o.Send(&NewClient{ID: 2}, full); !errors.Is(err, ErrQueueFull) {
		t.Errorf("error %v, want ErrQueueFull", err)
	}
	if !fullClosed() {
		t.Error("the descriptor of a refused message is open")
	}
	if waitsClosed() {
		t.Error("the descriptor of a queued message is closed")
	}
	o.Close()
	if !waitsClosed() {
		t.Error("the descriptor of a dropped message is open")
	}
	late, lateClosed := watchedFD(t)
	if err := o.Send(&NewClient{ID: 3}, late); err != nil || !lateClosed() {
		t.Errorf("after Close: error %v, the descriptor is open", err)
	}
}

func TestOutboxClosesItsCopyOfADescriptorAfterTheWrite(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	o := NewOutbox(a, 10, never, func(err error) { t.Error(err) })
	fd, closed := watchedFD(t)
	if err := o.Send(&NewClient{ID: 1}, fd); err != nil {
		t.Fatal(err)
	}
	env, err := b.Receive()
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	awaitDone(t, o)
	if closed() {
		t.Error("the receiver's copy is closed")
	}
	env.CloseFDs()
	if !closed() {
		t.Error("a copy is still open")
	}
}
