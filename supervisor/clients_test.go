package supervisor

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

func (w *world) arrive() {
	w.t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Close(fd) })
	w.s.onAccepted(listen.Client{FD: fd, Address: "192.0.2.7:1"})
}

func (w *world) clients() []int {
	var n []int
	for _, f := range w.children {
		n = append(n, len(messagesOf[*ipc.NewClient](f)))
	}
	return n
}

func TestClientGoesToTheWorkerWithTheFewest(t *testing.T) {
	w := newWorld(t, 3)
	w.up()
	for range 3 {
		w.arrive()
	}
	if diff := cmp.Diff([]int{1, 1, 1}, w.clients()); diff != "" {
		t.Error(diff)
	}
	w.say(w.children[1], &ipc.ClientsGone{IDs: []uint64{messagesOf[*ipc.NewClient](w.children[1])[0].ID}})
	w.arrive()
	if diff := cmp.Diff([]int{1, 2, 1}, w.clients()); diff != "" {
		t.Error(diff)
	}
	if w.s.clients.total != 3 || len(w.children[1].fds) != 2 {
		t.Errorf("total %d, descriptors %v", w.s.clients.total, w.children[1].fds)
	}
}

func TestFullQueuesPauseAccept(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.children[0].length = clientHighWater
	w.arrive()
	if diff := cmp.Diff([]int{0, 1}, w.clients()); diff != "" {
		t.Error(diff)
	}
	w.children[1].length = clientHighWater
	w.arrive()
	if w.s.clients.gate.IsOpen() || len(w.s.clients.waiting) != 1 {
		t.Fatalf("open %v, %d wait", w.s.clients.gate.IsOpen(), len(w.s.clients.waiting))
	}
	w.advance(time.Second)
	w.children[1].length = 0
	w.advance(fullPause)
	if diff := cmp.Diff([]int{0, 2}, w.clients()); diff != "" {
		t.Error(diff)
	}
	if !w.s.clients.gate.IsOpen() {
		t.Error("accept goes not on")
	}
}

func TestClientsThatADeadWorkerHasNotTakenGoToOthers(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	for range 4 {
		w.arrive()
	}
	dead := w.children[0]
	taken, left := messagesOf[*ipc.NewClient](dead)[0], messagesOf[*ipc.NewClient](dead)[1]
	dead.unread = []ipc.Envelope{
		{Message: &ipc.Ping{ID: 1}},
		{Message: left, FDs: dead.fds[1:2]},
	}
	w.die(dead)
	other := w.children[1]
	if diff := cmp.Diff([]int{2, 3}, w.clients()); diff != "" {
		t.Fatal(diff)
	}
	if got := messagesOf[*ipc.NewClient](other)[2]; got.ID == left.ID || got.ID == taken.ID || got.Address != left.Address {
		t.Errorf("handed on as %+v, it was %+v", got, left)
	}
	if other.fds[2] != dead.fds[1] || w.s.clients.total != 3 {
		t.Errorf("descriptors %v, total %d", other.fds, w.s.clients.total)
	}
}

func TestNobodyIsAcceptedBeforeTheServersAreKnown(t *testing.T) {
	w := newWorld(t, 1)
	w.machine.status.Phase = failover.PhaseStarting.String()
	w.up()
	if w.s.clients.gate.IsOpen() || w.s.service.ready {
		t.Fatal("open while starting")
	}
	w.machine.status.Phase = failover.PhaseOpen.String()
	w.s.feed(failover.Tick{})
	if !w.s.clients.gate.IsOpen() || !w.s.service.ready {
		t.Error("not open")
	}
	w.s.killWorker(w.s.workers.slots[0].child, "test")
	if w.s.clients.gate.IsOpen() {
		t.Error("open without a worker")
	}
}

func TestWorkerThatLosesAClientItNeverHadIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{77}})
	if !w.children[0].killed {
		t.Error("not killed")
	}
}

func TestCancelIsAskedOfAllOthersUntilFound(t *testing.T) {
	w := newWorld(t, 3)
	w.up()
	w.say(w.children[0], &ipc.CancelRequest{ID: 5, PID: 9, Key: "k"})
	for i, want := range []int{0, 1, 1} {
		if n := len(messagesOf[*ipc.CancelForward](w.children[i])); n != want {
			t.Errorf("worker %d was asked %d times", i, n)
		}
	}
	id := messagesOf[*ipc.CancelForward](w.children[1])[0].ID
	w.say(w.children[1], &ipc.CancelAnswer{ID: id})
	if len(messagesOf[*ipc.CancelDone](w.children[0])) != 0 {
		t.Fatal("done before the last answer")
	}
	w.say(w.children[2], &ipc.CancelAnswer{ID: id, Found: true})
	if done := messagesOf[*ipc.CancelDone](w.children[0]); len(done) != 1 || done[0].ID != 5 {
		t.Errorf("%v", done)
	}
	if len(w.s.cancels.pending) != 0 {
		t.Error("it is still kept")
	}
}

func TestFirstFoundEndsACancel(t *testing.T) {
	w := newWorld(t, 3)
	w.up()
	w.say(w.children[0], &ipc.CancelRequest{ID: 5})
	w.say(w.children[1], &ipc.CancelAnswer{ID: 1, Found: true})
	if len(messagesOf[*ipc.CancelDone](w.children[0])) != 1 {
		t.Error("not done")
	}
	w.say(w.children[2], &ipc.CancelAnswer{ID: 1})
	if w.children[2].killed || len(messagesOf[*ipc.CancelDone](w.children[0])) != 1 {
		t.Error("a late answer did harm")
	}
}

func TestCancelEndsWithoutAnswers(t *testing.T) {
	w := newWorld(t, 3)
	w.up()
	w.say(w.children[0], &ipc.CancelRequest{ID: 5})
	w.say(w.children[0], &ipc.CancelRequest{ID: 6})
	w.say(w.children[1], &ipc.CancelAnswer{ID: 1})
	w.die(w.children[2])
	if done := messagesOf[*ipc.CancelDone](w.children[0]); len(done) != 1 || done[0].ID != 5 {
		t.Errorf("%v", done)
	}
	w.advance(cancelsStay + time.Millisecond)
	if len(messagesOf[*ipc.CancelDone](w.children[0])) != 2 || len(w.s.cancels.pending) != 0 {
		t.Error("it never ends")
	}
}

func TestCancelsAreBounded(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	for i := range maxCancels + 10 {
		w.say(w.children[0], &ipc.CancelRequest{ID: uint64(i)})
	}
	if n := len(w.s.cancels.pending); n != maxCancels {
		t.Errorf("%d pending", n)
	}
	if n := len(messagesOf[*ipc.CancelDone](w.children[0])); n != 10 {
		t.Errorf("%d ended at once", n)
	}
}

func TestCancelWithoutOtherWorkersEndsAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.say(w.children[0], &ipc.CancelRequest{ID: 5})
	if len(messagesOf[*ipc.CancelDone](w.children[0])) != 1 {
		t.Error("not done")
	}
}

func TestLimitOfAnAliasCounts(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Limits = []config.Limit{{Database: config.Named("d"), Aliases: []string{"a"}, User: config.Named("u"), MaxSize: 1}}
	})
	w.up()
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u"), Requested: "a"})
	w.say(w.children[0], &ipc.LeaseRequest{ID: 2, Key: key("u"), Requested: "d"})
	w.say(w.children[0], &ipc.LeaseRequest{ID: 3, Key: key("v"), Requested: "d"})
	var got []uint64
	for _, g := range messagesOf[*ipc.LeaseGrant](w.children[0]) {
		got = append(got, g.ID)
	}
	if diff := cmp.Diff([]uint64{1, 3}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhoDoesNotWaitIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	for i := range 5 {
		w.say(w.children[0], &ipc.LeaseRequest{ID: uint64(i), Key: key("u"), NoWait: true})
	}
	if n := len(messagesOf[*ipc.LeaseRefuse](w.children[0])); n != 0 {
		t.Fatalf("%d refused before a reclaim could help", n)
	}
	w.advance(w.s.cfg.ConnectionRetryDelay)
	refused := messagesOf[*ipc.LeaseRefuse](w.children[0])
	if len(messagesOf[*ipc.LeaseGrant](w.children[0])) != 4 || len(refused) != 1 {
		t.Fatalf("%d refused", len(refused))
	}
	if diff := cmp.Diff(&ipc.LeaseRefuse{ID: 4, Refusal: uint8(pgwire.RefusalPoolFull)}, refused[0]); diff != "" {
		t.Error(diff)
	}
	if n := w.s.ledger.Counts().Waiting; n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestWhoDoesNotWaitGetsWhatIsReclaimedAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	for i := range 4 {
		w.say(w.children[0], &ipc.LeaseRequest{ID: uint64(i), Key: key("u")})
	}
	lease := messagesOf[*ipc.LeaseGrant](w.children[0])[0].Lease
	w.say(w.children[0], &ipc.LeaseRequest{ID: 9, Key: key("v"), NoWait: true})
	w.say(w.children[0], &ipc.LeaseReturn{Lease: lease})
	w.advance(w.s.cfg.ConnectionRetryDelay)
	if n := len(messagesOf[*ipc.LeaseRefuse](w.children[0])); n != 0 {
		t.Errorf("%d refused", n)
	}
	if g := messagesOf[*ipc.LeaseGrant](w.children[0]); len(g) != 5 || g[4].ID != 9 {
		t.Errorf("granted %v", g)
	}
}

func TestWorkerThatReturnsWhatItHasNotIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.say(w.children[0], &ipc.LeaseReturn{Lease: 99})
	if !w.children[0].killed {
		t.Error("not killed")
	}
}

// orphan has a worker die with one backend of process 42.
func orphan(w *world) {
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u")})
	grant := messagesOf[*ipc.LeaseGrant](w.children[0])[0]
	w.say(w.children[0], &ipc.LeaseOpened{Lease: grant.Lease, PID: 42, Key: "abcd"})
	w.die(w.children[0])
}

func TestOrphansAreCancelledAndCountForAWhile(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	orphan(w)
	if diff := cmp.Diff([]uint32{42}, w.canceled); diff != "" {
		t.Error(diff)
	}
	w.advance(w.s.cfg.OrphanGrace - time.Millisecond)
	if n := w.s.ledger.Counts().Orphans; n != 1 {
		t.Errorf("%d orphans", n)
	}
	w.advance(2 * time.Millisecond)
	if n := w.s.ledger.Counts().Total; n != 0 {
		t.Errorf("%d leases", n)
	}
}

func TestOrphansOfAFencedEpochAreNotCancelled(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	orphan(w)
	if len(w.canceled) != 0 {
		t.Error("a cancel reached the old primary")
	}
}

func withProbeUser(c *config.Config) { c.HealthCheckUser = "monitor" }

func TestOrphanIsReturnedOnceItsServerDoesNotShowIt(t *testing.T) {
	w := newWorld(t, 2, withProbeUser)
	w.up()
	left := []uint32{42}
	w.shown = func() ([]uint32, error) { return left, nil }
	orphan(w)
	w.advance(orphanFirst - time.Millisecond)
	if len(w.asked) != 0 {
		t.Error("the server is asked before the backend had time to end")
	}
	w.advance(orphanEvery)
	if diff := cmp.Diff([][]uint32{{42}}, w.asked); diff != "" {
		t.Fatal(diff)
	}
	if n := w.s.ledger.Counts().Orphans; n != 1 {
		t.Errorf("%d orphans although the server shows one", n)
	}
	left = nil
	w.advance(2 * time.Millisecond)
	if n := w.s.ledger.Counts().Total; n != 0 || len(w.asked) != 2 {
		t.Errorf("%d leases after %d looks", n, len(w.asked))
	}
	w.advance(2 * w.s.cfg.OrphanGrace)
	if len(w.asked) != 2 {
		t.Errorf("%d looks: nothing is left to look for", len(w.asked))
	}
}

func TestOrphanThatCannotBeLookedForWaitsForItsTime(t *testing.T) {
	w := newWorld(t, 2, withProbeUser)
	w.up()
	w.shown = func() ([]uint32, error) { return nil, errors.New("refused") }
	orphan(w)
	w.advance(w.s.cfg.OrphanGrace - time.Millisecond)
	if n := w.s.ledger.Counts().Orphans; n != 1 || len(w.asked) != 1 {
		t.Errorf("%d orphans after %d looks", n, len(w.asked))
	}
	w.advance(2 * time.Millisecond)
	if n := w.s.ledger.Counts().Total; n != 0 {
		t.Errorf("%d leases", n)
	}
}

func TestOrphanThatItsServerShowsForEverIsReturnedAfterItsTime(t *testing.T) {
	w := newWorld(t, 2, withProbeUser)
	w.up()
	w.shown = func() ([]uint32, error) { return []uint32{42}, nil }
	orphan(w)
	w.advance(w.s.cfg.OrphanGrace + time.Millisecond)
	if n := w.s.ledger.Counts().Total; n != 0 {
		t.Errorf("%d leases", n)
	}
	looks := len(w.asked)
	w.advance(time.Minute)
	if len(w.asked) != looks || looks < 4 {
		t.Errorf("%d looks, then %d", looks, len(w.asked))
	}
}

// The reason may name scripts, hosts and processes: that is for operators.
func TestClientsAreToldTheStateAndNotTheReason(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.machine.status.Reason, w.machine.status.Public = "failover_script can't run: /srv/hooks/promote is missing", "a failover is under way"
	w.s.publish(failover.Snapshot{Gen: 9, Primary: -1})
	c := w.children[0]
	states := messagesOf[*ipc.ServerState](c)
	if why := states[len(states)-1].Why; why != "a failover is under way" {
		t.Errorf("workers are told %q", why)
	}
	w.s.refuseNow(w.s.readyAt(0), 4)
	refused := messagesOf[*ipc.LeaseRefuse](c)
	if diff := cmp.Diff([]*ipc.LeaseRefuse{{ID: 4, Refusal: uint8(pgwire.RefusalNotAvailable), Words: []string{"a failover is under way"}}}, refused); diff != "" {
		t.Error(diff)
	}
}

// A dead worker's backends may be many, and a cancel request costs the server a process.
func TestOrphansAreCancelledAFewAtATimeAndOnce(t *testing.T) {
	w := newWorld(t, 2, func(c *config.Config) { c.MaxConnections = 20 })
	w.up()
	for i := range uint64(20) {
		w.say(w.children[0], &ipc.LeaseRequest{ID: i + 1, Key: key("u")})
	}
	for i, g := range messagesOf[*ipc.LeaseGrant](w.children[0]) {
		w.say(w.children[0], &ipc.LeaseOpened{Lease: g.Lease, PID: uint32(100 + i), Key: "abcd"})
	}
	most := 0
	w.canceling = func() { most = max(most, len(w.s.cancels.orphans)) }
	w.die(w.children[0])
	w.advance(w.s.cfg.OrphanGrace)
	if most != orphanCancels || len(w.canceled) != 20 {
		t.Errorf("%d at once, %d together", most, len(w.canceled))
	}
}
