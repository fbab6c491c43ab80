package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func oneConnection(c *config.Config) { c.MaxConnections = 1 }

// handOverWorld has a backend at worker 0, and a client of the same pool that waits
// at worker 1 under request 5.
func handOverWorld(t *testing.T, change ...func(*config.Config)) (w *world, m *ipc.HandOver) {
	t.Helper()
	w = newWorld(t, 2, append(change, oneConnection)...)
	w.up()
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u")})
	lease := messagesOf[*ipc.LeaseGrant](w.children[0])[0].Lease
	w.say(w.children[0], &ipc.LeaseOpened{Lease: lease, PID: 42, Key: "abcd"})
	w.say(w.children[1], &ipc.LeaseRequest{ID: 5, Key: key("u")})
	return w, &ipc.HandOver{Lease: lease, Backend: ipc.BackendState{Key: key("u"), Epoch: 1, PID: 42, Secret: "abcd", Serial: 7}}
}

// connection returns a descriptor of a connection to the primary, as a worker hands it
// over, and the server's end.
func (w *world) connection() (int, net.Conn) {
	w.t.Helper()
	fd, server := connection(w.t)
	at := server.LocalAddr().(*net.TCPAddr)
	w.s.servers.where[0] = newWhere(at.IP.String(), at.Port)
	return fd, server
}

// connection returns a descriptor of a TCP connection and its other end.
func connection(t *testing.T) (int, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ours, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	file, err := ours.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd, server
}

// wantReset waits for the server's end of a connection to be cut, with another
// descriptor of it still open.
func wantReset(t *testing.T, server net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, server); n > 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %d bytes and %v, not a reset", n, err)
	}
}

func copyOf(t *testing.T, fd int) int {
	t.Helper()
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(other) })
	return other
}

func TestBackendIsPassedOnToTheWorkerWhoseClientWaits(t *testing.T) {
	w, m := handOverWorld(t)
	fd, _ := w.connection()
	defer unix.Close(fd)
	w.say(w.children[0], m, fd)
	got := messagesOf[*ipc.TakeOver](w.children[1])
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	if got[0].ID != 5 || got[0].Lease == m.Lease {
		t.Errorf("request %d, lease %d", got[0].ID, got[0].Lease)
	}
	if !cmp.Equal(m.Backend, got[0].Backend) {
		t.Error("the state has changed")
	}
	if diff := cmp.Diff([]int{fd}, w.children[1].fds); diff != "" {
		t.Error(diff)
	}
	held, _ := w.s.ledger.Lease(got[0].Lease)
	if held.Worker != 1 || held.PID != 42 || w.s.ledger.Counts().Total != 1 {
		t.Errorf("%+v", held)
	}
	w.say(w.children[1], &ipc.LeaseReturn{Lease: got[0].Lease})
	if n := w.s.ledger.Counts().Total; n != 0 || w.children[1].killed {
		t.Errorf("%d leases", n)
	}
}

func TestBackendThatNobodyWaitsForGoesBackToItsWorker(t *testing.T) {
	w, m := handOverWorld(t)
	fd, _ := w.connection()
	defer unix.Close(fd)
	w.say(w.children[1], &ipc.LeaseAbandon{ID: 5})
	w.say(w.children[0], m, fd)
	got := messagesOf[*ipc.TakeOver](w.children[0])
	if len(got) != 1 || got[0].ID != 0 || len(w.children[0].fds) != 1 {
		t.Fatalf("%v", got)
	}
	if held, _ := w.s.ledger.Lease(got[0].Lease); held.Worker != 0 {
		t.Errorf("%+v", held)
	}
}

// A backend that a worker hands over before it acknowledges a fence arrives before the
// acknowledgement. It must not be passed on, or the acknowledgement would be false.
func TestFenceCutsABackendThatIsOnItsWay(t *testing.T) {
	w, m := handOverWorld(t)
	fd, server := w.connection()
	copyOf(t, fd) // the sender's, not closed yet
	w.s.publish(failover.Snapshot{Gen: 2, Epoch: 1, Primary: -1, Servers: make([]failover.ServerView, 2)})
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[0], m, fd)
	if n := len(messagesOf[*ipc.TakeOver](w.children[1])) + len(messagesOf[*ipc.TakeOver](w.children[0])); n != 0 {
		t.Error("a backend of a fenced epoch was passed on")
		abort(w.children[1].fds)
	}
	wantReset(t, server)
	if n := w.s.ledger.Counts().Total; n != 0 {
		t.Errorf("%d leases", n)
	}
	for _, c := range w.children {
		w.say(c, &ipc.Fenced{Epoch: 1, Seq: 1})
	}
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d reports of the fence", n)
	}
}

// A backend that was passed on before the fence is in front of it on the link of
// the worker that gets both, which aborts it and only then acknowledges.
func TestFenceFollowsWhatWasPassedOnBefore(t *testing.T) {
	w, m := handOverWorld(t)
	fd, _ := w.connection()
	defer unix.Close(fd)
	w.say(w.children[0], m, fd)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	var order []string
	for _, m := range w.children[1].sent {
		switch m.(type) {
		case *ipc.TakeOver, *ipc.Fence:
			order = append(order, ipc.Name(m.Number()))
		}
	}
	if diff := cmp.Diff([]string{"TakeOver", "Fence"}, order); diff != "" {
		t.Error(diff)
	}
	w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 1})
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Error("the fence is reported before the worker that got the backend has answered")
	}
}

func TestBackendsArePassedOnAgainAfterAFenceWasLifted(t *testing.T) {
	w, m := handOverWorld(t)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.s.publish(openAt(0, 1))
	fd, _ := w.connection()
	defer unix.Close(fd)
	w.say(w.children[0], m, fd)
	if n := len(messagesOf[*ipc.TakeOver](w.children[1])); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestBackendOfADeadWorkerIsCutAndCountsAsOrphan(t *testing.T) {
	w, m := handOverWorld(t)
	fd, server := w.connection()
	copyOf(t, fd)
	w.s.killWorker(w.s.workers.slots[0].child, "test")
	w.say(w.children[0], m, fd)
	wantReset(t, server)
	w.die(w.children[0])
	if c := w.s.ledger.Counts(); c.Orphans != 1 || c.Total != 1 {
		t.Errorf("%d leases, %d orphans", c.Total, c.Orphans)
	}
	w.advance(w.s.cfg.OrphanGrace)
	if g := messagesOf[*ipc.LeaseGrant](w.children[1]); len(g) != 1 || w.s.ledger.Counts().Total != 1 {
		t.Errorf("granted %v", g)
	}
}

func TestBackendThatADyingWorkerShouldGetIsItsOrphan(t *testing.T) {
	for _, how := range []string{"killed before", "queue full"} {
		t.Run(how, func(t *testing.T) {
			w, m := handOverWorld(t)
			fd, server := w.connection()
			if how == "killed before" {
				w.s.killWorker(w.s.workers.slots[1].child, "test")
			} else {
				w.children[1].full = true
			}
			w.say(w.children[0], m, fd)
			if how == "killed before" {
				wantReset(t, server)
			} else if !w.children[1].killed {
				t.Error("not killed")
				unix.Close(fd)
			}
			w.die(w.children[1])
			if diff := cmp.Diff([]uint32{42}, w.canceled); diff != "" {
				t.Error(diff)
			}
			if c := w.s.ledger.Counts(); c.Orphans != 1 || c.Total != 1 {
				t.Errorf("%d leases, %d orphans", c.Total, c.Orphans)
			}
			w.advance(w.s.cfg.OrphanGrace)
			if n := w.s.ledger.Counts().Total; n != 0 {
				t.Errorf("%d leases", n)
			}
		})
	}
}

func TestBackendWhoseDescriptorHadNoRoomIsReturned(t *testing.T) {
	w, m := handOverWorld(t)
	w.say(w.children[0], m)
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[1])); n != 1 || w.children[0].killed {
		t.Errorf("%d grants", n)
	}
}

func TestWorkerThatHandsOverWhatItHasNotIsKilled(t *testing.T) {
	w, m := handOverWorld(t)
	fd, server := w.connection()
	w.say(w.children[1], m, fd)
	wantReset(t, server)
	if !w.children[1].killed {
		t.Error("not killed")
	}
}

func TestRefusalsSayWhoHoldsThePool(t *testing.T) {
	var log logBuffer
	w := newWorld(t, 2, func(c *config.Config) {
		c.Paths = config.Paths{Config: "/etc/c", Limits: "/etc/d"}
		c.Limits = []config.Limit{
			{Database: config.Named("d"), User: config.Named("u"), MaxSize: 3, Line: 7},
			{Database: config.Named("d"), User: config.Named("w"), MaxSize: 3, Line: 8},
		}
	})
	w.s.log = log.logger()
	w.up()
	for i := range 3 {
		w.say(w.children[0], &ipc.LeaseRequest{ID: uint64(i), Key: key("u")})
	}
	w.say(w.children[1], &ipc.LeaseRequest{ID: 1, Key: key("v")})
	for range 3 {
		w.say(w.children[1], &ipc.LeaseAbandon{Refused: 2})
	}
	const want = `reason="no backend was free in time" refused=2 full="max_connections (by default, /etc/c): 4 of 4; /etc/d:7 (d u): 3 of 3" leases=4 max_connections=4 waiting=0 workers="0: 3, 1: 1" holders="d/u 3 (0: 3); d/v 1 (1: 1)"`
	if got := log.lines("pool is full"); len(got) != 1 || !strings.Contains(got[0], want) {
		t.Fatalf("logged %q, want %s", got, want)
	}
	w.advance(holdersEvery + time.Millisecond)
	w.say(w.children[1], &ipc.LeaseAbandon{Refused: 1})
	if got := log.lines("pool is full"); len(got) != 2 || !strings.Contains(got[1], "refused=5 ") {
		t.Errorf("logged %q", got)
	}
}

func TestAUserThatOnlyTheServerKnowsIsLoggedOnceAndNotForEver(t *testing.T) {
	var log logBuffer
	w := newWorld(t, 1, func(c *config.Config) { c.MaxConnections = 4 * (maxPassed + 5) })
	w.s.log = log.logger()
	w.up()
	for i := range maxPassed + 5 {
		for j, unproven := range []bool{true, true, false} {
			id := uint64(3*i + j + 1)
			name := fmt.Sprintf("u%d", i)
			if !unproven {
				name = "known"
			}
			w.say(w.children[0], &ipc.LeaseRequest{ID: id, Key: key(name), Unproven: unproven})
			grants := messagesOf[*ipc.LeaseGrant](w.children[0])
			w.say(w.children[0], &ipc.LeaseOpened{Lease: grants[len(grants)-1].Lease, PID: uint32(id)})
		}
	}
	const line = "a server lets in a user that has no entry in the users file"
	got := log.lines(line)
	if len(got) != maxPassed || !strings.Contains(got[0], "user=u0 ") || len(w.s.leases.passed) != maxPassed {
		t.Errorf("%d lines for %d users, %d kept; the first is %q", len(got), maxPassed+5, len(w.s.leases.passed), got[:1])
	}
	if n := len(log.lines("further users")); n != 1 {
		t.Errorf("said %d times that there are more", n)
	}
}

// logBuffer keeps what is logged.
type logBuffer struct{ bytes.Buffer }

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *logBuffer) lines(with string) []string {
	var found []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, with) {
			found = append(found, line)
		}
	}
	return found
}
