package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// passWorld has a retired worker old with client 1 and a backend of process 42, and next in its place.
func passWorld(t *testing.T, change ...func(*config.Config)) (w *world, old, next *fakeChild, m *ipc.SessionOut) {
	t.Helper()
	w = newWorld(t, 1, change...)
	w.up()
	old = w.children[0]
	lease := w.lease(old, key("u"))
	w.say(old, &ipc.LeaseOpened{Lease: lease, PID: 42, Key: "abcd"})
	w.s.replaceWorker(w.s.workers.slots[0].child)
	w.settle()
	next = w.children[1]
	w.hello(next)
	return w, old, next, &ipc.SessionOut{
		Client: 1, Lease: lease, State: "state", Backend: ipc.BackendState{Key: key("u"), Epoch: 1, PID: 42, Secret: "abcd"},
	}
}

// clientFile is a descriptor in the place of a client's.
func clientFile(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func closeLater(t *testing.T, fds ...int) {
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
}

// belongsTo checks which worker has the client and how many leases there are.
func (w *world) belongsTo(worker int, leases int) {
	w.t.Helper()
	for _, sl := range w.s.workers.slots {
		if c := sl.child; c != nil && c.clients[1] != (c.index == worker) {
			w.t.Errorf("worker %d has the client: %v", c.index, c.clients[1])
		}
	}
	counts := w.s.ledger.Counts()
	if counts.Total != leases || leases > 0 && counts.Workers[worker] != leases {
		w.t.Errorf("leases %+v", counts)
	}
}

func TestSessionGoesToTheWorkerInItsPlace(t *testing.T) {
	w, old, next, m := passWorld(t)
	if got := messagesOf[*ipc.Pass](old); len(got) != 1 || got[0].Until != passWindow {
		t.Fatalf("the old worker is told %v", got)
	}
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	w.say(old, m, client, fd)
	got := messagesOf[*ipc.SessionIn](next)
	if len(got) != 1 || got[0].Client != 1 || got[0].Lease == m.Lease || got[0].Lease == 0 || got[0].State != "state" {
		t.Fatalf("the new worker gets %d messages", len(got))
	}
	if !slices.Equal(next.fds, []int{client, fd}) {
		t.Errorf("with descriptors %v", next.fds)
	}
	w.belongsTo(1, 1)
	if len(messagesOf[*ipc.Drain](old)) != 1 {
		t.Error("a worker without clients isn't told to end")
	}
	w.say(next, &ipc.SessionTaken{Client: 1})
	w.say(next, &ipc.LeaseReturn{Lease: got[0].Lease})
	w.say(next, &ipc.ClientsGone{IDs: []uint64{1}})
	if old.killed || next.killed || w.s.clients.total != 0 || len(w.s.clients.taking) != 0 {
		t.Errorf("%d clients, %d on their way", w.s.clients.total, len(w.s.clients.taking))
	}
}

func TestFencedSessionIsCutOnItsWay(t *testing.T) {
	w, old, next, m := passWorld(t)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	fd, server := w.connection()
	client := clientFile(t)
	closeLater(t, client)
	w.say(old, m, client, fd)
	got := messagesOf[*ipc.SessionIn](next)
	if len(got) != 1 || !got[0].Cut || got[0].Lease != 0 || !slices.Equal(next.fds, []int{client}) {
		t.Fatalf("the new worker gets %d messages, descriptors %v", len(got), next.fds)
	}
	wantReset(t, server)
	w.belongsTo(1, 0)
	for _, f := range []*fakeChild{old, next} {
		w.say(f, &ipc.Fenced{Epoch: 1, Seq: 1})
	}
	if len(eventsOf[failover.Fenced](w)) != 1 || old.killed || next.killed {
		t.Error("the fence isn't complete")
	}
}

func TestOldWorkerWaitsForTheNextWhenTheNewOneDies(t *testing.T) {
	w, old, next, m := passWorld(t)
	w.die(next)
	passes := messagesOf[*ipc.Pass](old)
	if passes[len(passes)-1].Until != 0 {
		t.Error("the old worker goes on handing over to nobody")
	}
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	w.say(old, m, client, fd) // it was on its way
	if got := messagesOf[*ipc.SessionIn](old); len(got) != 1 || got[0].Lease == m.Lease {
		t.Fatalf("%d messages bring the session back", len(got))
	}
	w.belongsTo(0, 1)
	w.say(old, &ipc.SessionTaken{Client: 1})
	w.live(time.Second)
	if len(w.children) != 3 {
		t.Fatalf("%d workers were started", len(w.children))
	}
	w.hello(w.children[2])
	passes = messagesOf[*ipc.Pass](old)
	if last := passes[len(passes)-1]; last.Until != 1+passWindow {
		t.Errorf("the old worker may hand over %d", last.Until)
	}
}

func TestSessionThatADeadWorkerHasNotReadIsRescued(t *testing.T) {
	w, old, next, m := passWorld(t)
	w.letIn(old) // so that the old worker lives on
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	w.say(old, m, client, fd)
	next.unread = []ipc.Envelope{{Message: messagesOf[*ipc.SessionIn](next)[0], FDs: []int{client, fd}}}
	w.die(next)
	if got := messagesOf[*ipc.SessionIn](old); len(got) != 1 || !slices.Equal(old.fds, []int{client, fd}) {
		t.Fatalf("%d messages, descriptors %v", len(got), old.fds)
	}
	w.belongsTo(0, 1)
}

// The window lets the old worker send only so many sessions ahead of the new one.
func TestNewWorkerPacesTheOldOne(t *testing.T) {
	w, old, next, m := passWorld(t)
	for range 2 * passWindow {
		w.letIn(old)
	}
	ids := uint64(1)
	for range passWindow {
		ids++
		client := clientFile(t)
		closeLater(t, client)
		w.say(old, &ipc.SessionOut{Client: ids, State: m.State}, client)
	}
	if got := messagesOf[*ipc.Pass](old); len(got) != 1 {
		t.Errorf("told %d times to go on, and nothing was taken", len(got))
	}
	for id := uint64(2); id < 2+passWindow/2; id++ {
		w.say(next, &ipc.SessionTaken{Client: id})
	}
	got := messagesOf[*ipc.Pass](old)
	if len(got) != 2 || got[1].Until != passWindow+passWindow/2 {
		t.Errorf("told %d times to go on", len(got))
	}
}

func TestIdleBackendOfARetiredWorkerGoesToTheNewOne(t *testing.T) {
	w, old, next, m := passWorld(t)
	fd, _ := w.connection()
	closeLater(t, fd)
	w.say(old, &ipc.HandOver{Lease: m.Lease, Backend: m.Backend}, fd)
	if got := messagesOf[*ipc.TakeOver](next); len(got) != 1 || got[0].ID != 0 {
		t.Fatalf("%d messages", len(got))
	}
	if held := w.s.ledger.Held(1); held != 1 {
		t.Errorf("the new worker holds %d leases", held)
	}
}

func TestWorkerThatLiesAboutASessionIsKilled(t *testing.T) {
	for name, lie := range map[string]func(m *ipc.SessionOut) (fds int){
		"client":  func(m *ipc.SessionOut) int { m.Client = 9; return 2 },
		"lease":   func(m *ipc.SessionOut) int { m.Lease += 5; return 2 },
		"pool":    func(m *ipc.SessionOut) int { m.Backend.Key = key("other"); return 2 },
		"process": func(m *ipc.SessionOut) int { m.Backend.PID = 1; return 2 },
		"files":   func(*ipc.SessionOut) int { return 3 },
		"size":    func(m *ipc.SessionOut) int { m.Mapped = ipc.MaxSessionState + 1; return 3 },
	} {
		t.Run(name, func(t *testing.T) {
			w, old, next, m := passWorld(t)
			fds := []int{clientFile(t), clientFile(t), clientFile(t)}
			n := lie(m)
			closeLater(t, fds[n:]...)
			w.say(old, m, fds[:n]...)
			if !old.killed || len(messagesOf[*ipc.SessionIn](next)) > 0 {
				t.Error("believed")
			}
		})
	}
	for name, lie := range map[string]ipc.Message{
		"taken": &ipc.SessionTaken{Client: 1}, "passed": &ipc.Passed{Encrypted: 2}, "below nothing": &ipc.Passed{Encrypted: -1},
	} {
		w, old, _, _ := passWorld(t)
		if w.say(old, lie); !old.killed {
			t.Errorf("%s: believed", name)
		}
	}
	w := newWorld(t, 1)
	w.up()
	w.letIn(w.children[0])
	if w.say(w.children[0], &ipc.SessionOut{Client: 1}, clientFile(t)); !w.children[0].killed {
		t.Error("a worker that wasn't asked hands a session over")
	}
}

// recycleWorld has two workers, and an order to replace both.
func recycleWorld(t *testing.T) (w *world, answers *[]string) {
	t.Helper()
	w = newWorld(t, 2)
	w.up()
	answers = new([]string)
	w.s.startRecycle(control.AllWorkers, func(r control.RecycleResponse, err error) {
		*answers = append(*answers, strings.TrimSpace(fmt.Sprint(r.Workers, " ", r.Moved, " ", r.Left, " ", err)))
	})
	w.settle()
	return w, answers
}

func TestWorkersAreRecycledOneAfterTheOther(t *testing.T) {
	w, answers := recycleWorld(t)
	for i := range 2 {
		if len(w.children) != 3+i {
			t.Fatalf("%d workers were started", len(w.children))
		}
		w.hello(w.children[2+i])
		w.letIn(w.children[i]) // a client that stays
		w.say(w.children[i], &ipc.Passed{Other: 1})
	}
	if !slices.Equal(*answers, []string{"2 0 2 <nil>"}) {
		t.Errorf("answers %q", *answers)
	}
	refused := ""
	w.s.startRecycle(control.AllWorkers, func(_ control.RecycleResponse, err error) { refused = err.Error() })
	if !strings.Contains(refused, "2 workers that were replaced before still have clients") {
		t.Errorf("the next order: %s", refused)
	}
}

func TestOldWorkerGoesOnIfTheNewOneIsNeverReady(t *testing.T) {
	w, answers := recycleWorld(t)
	w.die(w.children[2])
	w.live(time.Minute)
	if len(*answers) != 1 || !strings.Contains((*answers)[0], "the old one goes on") {
		t.Errorf("answers %q", *answers)
	}
	if len(w.children) != 3 || w.children[0].killed || w.s.retires(w.s.workers.slots[0].child) {
		t.Errorf("%d workers were started", len(w.children))
	}
}

// TestSessionThatMovesDuringAQuiesceCountsAsBusy: the old worker has it no more, and the new one has counted before it came.
func TestSessionThatMovesDuringAQuiesceCountsAsBusy(t *testing.T) {
	w, old, next, m := passWorld(t)
	w.act(failover.Quiesce{Epoch: 1})
	asked := messagesOf[*ipc.Quiesce](next)
	w.say(next, &ipc.Quiesced{ID: asked[0].ID})
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	w.say(old, m, client, fd)
	w.say(old, &ipc.Quiesced{ID: asked[0].ID})
	if told := eventsOf[failover.Quiesced](w); len(told) != 1 || told[0].Busy != 1 {
		t.Errorf("the machine is told %+v", told)
	}
}

// A kick that reaches the worker which the client has just left follows it.
func TestKickFollowsASessionToItsNewWorker(t *testing.T) {
	w, old, next, m := passWorld(t)
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	got, answered := error(nil), false
	w.s.kick(1, func(err error) { got, answered = err, true })
	w.settle()
	w.say(old, m, client, fd)
	w.say(old, &ipc.Kicked{ID: messagesOf[*ipc.Kick](old)[0].ID})
	kicks := messagesOf[*ipc.Kick](next)
	if len(kicks) != 1 || kicks[0].Client != 1 || answered {
		t.Fatalf("the new worker is told %v; answered: %v, %v", kicks, answered, got)
	}
	w.say(next, &ipc.Kicked{ID: kicks[0].ID, Found: true})
	if !answered || got != nil {
		t.Errorf("answered: %v, %v", answered, got)
	}
}

// A session that no other worker takes comes back. Its worker didn't have it in between.
func TestKickFollowsASessionThatComesBack(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.letIn(w.children[0])
	got, answered := error(nil), false
	w.s.kick(1, func(err error) { got, answered = err, true })
	w.settle()
	w.say(w.children[0], &ipc.Kicked{ID: messagesOf[*ipc.Kick](w.children[0])[0].ID})
	kicks := messagesOf[*ipc.Kick](w.children[0])
	if len(kicks) != 2 || answered {
		t.Fatalf("its worker was asked %d times; answered: %v, %v", len(kicks), answered, got)
	}
	w.say(w.children[0], &ipc.Kicked{ID: kicks[1].ID, Found: true})
	if !answered || got != nil {
		t.Errorf("answered: %v, %v", answered, got)
	}
}

// The same for a cancel request, which may have come by the worker that the session goes to.
func TestCancelRequestFollowsASessionToItsNewWorker(t *testing.T) {
	w, old, next, m := passWorld(t)
	fd, _ := w.connection()
	client := clientFile(t)
	closeLater(t, fd, client)
	w.s.workers.slots[1].child.clients[7] = true
	w.say(next, &ipc.CancelRequest{ID: 5, PID: 9, Key: "k"})
	w.say(old, m, client, fd)
	w.say(old, &ipc.CancelAnswer{ID: messagesOf[*ipc.CancelForward](old)[0].ID})
	again := messagesOf[*ipc.CancelForward](next)
	if len(again) != 1 || again[0].PID != 9 || again[0].Key != "k" || len(messagesOf[*ipc.CancelDone](next)) != 0 {
		t.Fatalf("the new worker is asked %d times, and told %d times", len(again), len(messagesOf[*ipc.CancelDone](next)))
	}
	w.say(next, &ipc.CancelAnswer{ID: again[0].ID, Found: true})
	if done := messagesOf[*ipc.CancelDone](next); len(done) != 1 || done[0].ID != 5 {
		t.Errorf("the request has ended %d times", len(done))
	}
}
