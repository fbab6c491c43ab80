package supervisor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// TestOnlySoManyClientsAreOnTheirWay: more are accepted and handed on only when workers say that they have read theirs.
func TestOnlySoManyClientsAreOnTheirWay(t *testing.T) {
	w := newWorld(t, 2)
	w.s.clients.budget = 4
	w.up()
	for range 5 {
		w.arrive()
	}
	if diff := cmp.Diff([]int{2, 2}, w.clients()); diff != "" || w.s.clients.gate.IsOpen() || len(w.s.clients.waiting) != 1 {
		t.Fatalf("%d wait, open %v\n%s", len(w.s.clients.waiting), w.s.clients.gate.IsOpen(), diff)
	}
	asked := messagesOf[*ipc.Ping](w.children[1])
	if len(asked) != 1 {
		t.Fatalf("the worker was asked %d times", len(asked))
	}
	w.say(w.children[1], &ipc.Pong{ID: asked[0].ID})
	if diff := cmp.Diff([]int{2, 3}, w.clients()); diff != "" || len(w.s.clients.waiting) != 0 {
		t.Errorf("%d wait\n%s", len(w.s.clients.waiting), diff)
	}
	for _, p := range messagesOf[*ipc.Ping](w.children[1]) {
		w.say(w.children[1], &ipc.Pong{ID: p.ID})
	}
	if !w.s.clients.gate.IsOpen() {
		t.Error("accept doesn't go on")
	}
}

// A backend that is handed over needs a descriptor in a packet, as a client does. If there
// is no room for it, it is closed, and the client that waits for it gets a new one.
func TestBackendsOnTheirWayCountLikeClients(t *testing.T) {
	w, m := handOverWorld(t)
	w.s.clients.budget = 4 // two for each worker
	fd, server := w.connection()
	w.arrive()
	w.arrive()
	w.arrive()
	w.arrive()
	if diff := cmp.Diff([]uint64{2, 2}, w.flying()); diff != "" {
		t.Fatal(diff)
	}
	copyOf(t, fd) // wantReset wants another one open
	w.say(w.children[0], m, fd)
	if n := len(messagesOf[*ipc.TakeOver](w.children[1])); n != 0 {
		t.Errorf("%d backends were sent where no room was", n)
	}
	wantReset(t, server)
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[1])); n != 1 || w.children[0].killed {
		t.Errorf("%d grants for who waits", n)
	}
}

func TestABackendThatWasSentTakesThePlaceOfAClient(t *testing.T) {
	w, m := handOverWorld(t)
	fd, _ := w.connection()
	defer unix.Close(fd)
	before := w.flying()
	w.s.clients.budget = 4
	w.say(w.children[0], m, fd)
	if n := len(messagesOf[*ipc.TakeOver](w.children[1])); n != 1 {
		t.Fatalf("%d backends were sent", n)
	}
	if got := w.flying(); got[1] != before[1]+1 {
		t.Errorf("on their way: %v, before %v", got, before)
	}
}

// flying is how many descriptors are on their way to each worker.
func (w *world) flying() (n []uint64) {
	for _, sl := range w.s.workers.slots {
		n = append(n, sl.child.flight.sent-sl.child.flight.read)
	}
	return n
}

func TestMoreWaitingClientsThanTheBudgetAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.s.clients.budget = 3
	for range 5 {
		w.arrive()
	}
	if n := len(w.s.clients.waiting); n != 3 {
		t.Errorf("%d wait", n)
	}
}

func TestBudgetOfClientsLeavesRoomForTheRest(t *testing.T) {
	c := config.New()
	c.Workers, c.Servers = 2, make([]config.Server, 2)
	for _, limit := range []uint64{64, 256, 1024, 1 << 20} {
		n := clientBudget(c, limit)
		if n < c.Workers || n > int(limit/4) || n+config.OwnFiles(c) > int(limit) {
			t.Errorf("%d of %d for clients", n, limit)
		}
	}
}
