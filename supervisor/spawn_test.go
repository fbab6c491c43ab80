package supervisor

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A worker that hangs leaves clients in its socket, in the write that is in progress and in
// the queue. When it is killed, all of them come back, in their order.
func TestClientsOfAFullLinkComeBackInOrder(t *testing.T) {
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleWorker, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetPhase(ipc.PhaseRunning)
	const clients = 2000
	st := newStarted(conn, clients, quiet)
	st.keep(conn, theirs, slog.New(slog.DiscardHandler))
	defer st.close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for id := range uint64(clients) {
		fd, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.link.Send(&ipc.NewClient{ID: id}, fd); err != nil {
			t.Fatal(err)
		}
	}
	if st.link.Len() == 0 {
		t.Fatal("the socket has taken everything")
	}
	all := st.unread()
	for i, e := range all {
		if m, ok := e.Message.(*ipc.NewClient); !ok || m.ID != uint64(i) || len(e.FDs) != 1 {
			t.Errorf("message %d: %+v with %d descriptors", i, e.Message, len(e.FDs))
		}
		e.CloseFDs()
	}
	if len(all) != clients {
		t.Errorf("%d of %d clients come back", len(all), clients)
	}
}

// When the link of a dead worker can't be read, the write in progress never gets room.
// Nobody may wait until that write times out.
func TestLinkThatCannotBeReadKeepsNobodyWaiting(t *testing.T) {
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleWorker, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	conn.SetPhase(ipc.PhaseRunning)
	var log bytes.Buffer
	st := newStarted(conn, 10000, quiet)
	null, err := os.Open(os.DevNull) // no socket
	if err != nil {
		t.Fatal(err)
	}
	st.keep(conn, null, logline.New(&log, "", slog.LevelInfo, "p"))
	defer st.close()
	for st.link.Len() < 10 { // the writer is stuck with one in hand
		if err := st.link.Send(&ipc.ReportRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if left := st.unread(); len(left) < 10 {
		t.Errorf("%d messages of the queue come back", len(left))
	}
	if err := conn.Send(&ipc.Ping{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the link is still open: %v", err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

func TestDeadWorkerIsNotToldAnythingWhileItsLinkIsRead(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	dead := w.children[0]
	outside := w.s.env.background
	var read func() func()
	w.s.env.background = func(job func() func()) { read = job }
	w.die(dead)
	w.s.env.background = outside
	n := len(dead.sent)
	w.s.sendServerStates()
	for range 4 {
		w.arrive()
	}
	if read == nil || len(dead.sent) != n {
		t.Fatalf("it was sent %d messages more", len(dead.sent)-n)
	}
	if len(w.s.workers.slots[0].child.clients) != 0 {
		t.Error("it has clients")
	}
	read()()
	w.advance(time.Millisecond)
	if len(w.children) != 3 {
		t.Error("it wasn't started again")
	}
}

func TestLinkOfAWorkerThatEndsInAShutdownIsNotRead(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	read := false
	w.childAt(0).started.unread = func() []ipc.Envelope { read = true; return nil }
	w.s.shutNow()
	w.say(w.children[0], &ipc.Drained{})
	if !w.children[0].closed {
		t.Fatal("the link of a drained worker is open")
	}
	w.die(w.children[0])
	if read || !w.s.over {
		t.Errorf("read: %v, over: %v", read, w.s.over)
	}
}

func TestStraysAreCollectedOneScanAtATime(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.scans = 0
	own := w.childAt(0).started.pid
	w.zombies = []int{own, 77}
	for range 50 {
		w.s.onSignal(syscall.SIGCHLD)
	}
	if w.scans != 0 {
		t.Fatal("the loop scans itself")
	}
	w.settle()
	if w.scans != 2 || len(w.reaped) != 2 || w.reaped[0] != 77 || w.reaped[1] != 77 {
		t.Errorf("%d scans, collected %v", w.scans, w.reaped)
	}
	w.s.workers.spawning++ // whose process isn't in the list yet
	w.reaped = nil
	w.s.onSignal(syscall.SIGCHLD)
	w.settle()
	if len(w.reaped) != 0 {
		t.Errorf("collected %v while a child was being started", w.reaped)
	}
}
