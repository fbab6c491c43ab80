package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

func sessions() ipc.ConfigBegin {
	return ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000}
}

var poolD = ipc.PoolKey{Database: "d", User: "u"}

// descriptor duplicates the descriptor of a connection, and makes it blocking, as the
// supervisor's are.
func descriptor(t *testing.T, nc net.Conn) int {
	t.Helper()
	fd, err := detach(nc.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// serverOf returns a connection of a backend as another worker has opened it, and
// the server's end.
func serverOf(t *testing.T) (fd int, server *net.TCPConn) {
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
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(generous))
	return descriptor(t, ours), nc.(*net.TCPConn)
}

// free lets a client connect and leave, so that its backend is on the shelf.
func (r *rig) free(id uint64) *serverEnd {
	r.t.Helper()
	tc, srv := r.enter(id)
	tc.Close()
	if gone := expect[*ipc.ClientsGone](r); !slices.Equal(gone.IDs, []uint64{id}) {
		r.t.Fatalf("clients %d left, not %d", gone.IDs, id)
	}
	return srv
}

// handed waits until a backend is handed over.
func (r *rig) handed() (*ipc.HandOver, int) {
	r.t.Helper()
	m := expect[*ipc.HandOver](r)
	fd := wait(r.t, r.fds, "the descriptor of a backend")
	r.t.Cleanup(func() { unix.Close(fd) })
	return m, fd
}

func (r *rig) counts() (backends, live int) {
	r.t.Helper()
	r.do(func() {
		backends = len(r.w.backends)
		if p := r.pool(); p != nil {
			live = p.Live()
		}
	})
	return backends, live
}

func TestIdleBackendIsHandedOverToAClientOfTheSamePool(t *testing.T) {
	r := newRig(t, sessions())
	srv := r.free(1)
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	m, fd := r.handed()
	if m.Lease != 1 || m.Backend.PID != 42 || m.Backend.Secret.Reveal() != "\x01\x02\x03\x04" || m.Backend.Epoch != 1 || !m.Backend.NoPassword {
		t.Errorf("lease %d, backend %d, epoch %d, no password %v", m.Lease, m.Backend.PID, m.Backend.Epoch, m.Backend.NoPassword)
	}
	base := []ipc.Setting{{Name: "client_encoding", Value: "UTF8"}}
	if diff := cmp.Diff([][]ipc.Setting{base, base}, [][]ipc.Setting{m.Backend.Base, m.Backend.Params}); diff != "" {
		t.Error(diff)
	}
	if b, l := r.counts(); b != 0 || l != 0 {
		t.Errorf("%d backends are left, %d live", b, l)
	}
	r.do(func() {
		if r.w.shelf.Reclaims() != 0 {
			t.Error("the reclaim isn't struck out")
		}
	})
	if _, err := srv.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if n, err := unix.Read(fd, b[:]); n != 1 || err != nil {
		t.Errorf("read %d, %v: the connection doesn't go on", n, err)
	}
}

func TestBackendOfAnotherPoolIsClosed(t *testing.T) {
	r := newRig(t, sessions())
	srv := r.free(1)
	r.send(&ipc.Reclaim{ID: 1, Key: ipc.PoolKey{Database: "other", User: "u"}, Size: 1})
	if typ, _, err := pgwire.ReadMessage(srv.r, 100); err != nil || typ != 'X' {
		t.Fatalf("the server got %q, %v", typ, err)
	}
	srv.Close()
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 1 {
		t.Errorf("lease %d", m.Lease)
	}
}

func TestBackendThatIsInUseIsHandedOverAtItsNextBoundary(t *testing.T) {
	r := newRig(t, pooling())
	tc, srv := r.enter(1)
	if _, err := tc.Write(query); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil {
		t.Fatal(err)
	}
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	r.do(func() {})
	if _, err := srv.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	if m, _ := r.handed(); m.Lease != 1 {
		t.Errorf("lease %d", m.Lease)
	}
}

// A fence cuts a backend that the event loop hasn't released yet, and the backend isn't
// handed over.
func TestFenceCutsABackendThatIsAboutToLeave(t *testing.T) {
	r := newRig(t, sessions())
	srv := r.free(1)
	pending := false
	r.do(func() {
		r.w.onReclaim(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
		pending = len(r.w.backends) == 1
		r.w.onFence(&ipc.Fence{Epoch: 1, Seq: 1})
	})
	if !pending {
		t.Fatal("it left at once: the test tests nothing")
	}
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 1 {
		t.Errorf("lease %d", m.Lease)
	}
	if f := expect[*ipc.Fenced](r); f.Aborted != 1 {
		t.Errorf("%d aborted", f.Aborted)
	}
	_ = srv.SetDeadline(time.Now().Add(generous))
	if n, err := io.Copy(io.Discard, srv); n > 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %d bytes and %v, not a reset", n, err)
	}
	r.do(func() {})
	select {
	case m := <-r.msgs:
		t.Errorf("then came %T", m)
	default:
	}
}

func TestClientThatWaitsGetsABackendOfAnotherWorker(t *testing.T) {
	r := newRig(t, sessions())
	tc := r.connect(1)
	fd, server := serverOf(t)
	state := ipc.BackendState{
		Key: poolD, Epoch: 1, PID: 77, Secret: "abcd", AgeMS: 3_600_000,
		Base: []ipc.Setting{{Name: "client_encoding", Value: "LATIN1"}}, Params: []ipc.Setting{{Name: "client_encoding", Value: "LATIN1"}},
	}
	r.sendFD(&ipc.TakeOver{ID: expect[*ipc.LeaseRequest](r).ID, Lease: 9, Backend: state}, fd)
	if p := tc.until(t, &pgproto3.ParameterStatus{}).(*pgproto3.ParameterStatus); p.Value != "LATIN1" {
		t.Errorf("parameter %s is %s", p.Name, p.Value)
	}
	if k := tc.until(t, &pgproto3.BackendKeyData{}).(*pgproto3.BackendKeyData); k.ProcessID != 77 {
		t.Errorf("process id %d", k.ProcessID)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	if _, err := tc.Write(query); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := pgwire.ReadMessage(server, 100); err != nil || typ != 'Q' {
		t.Errorf("the server got %q, %v", typ, err)
	}
	if _, err := server.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	r.do(func() {
		b := r.w.backends[9]
		if age := (r.w.now() - b.Born).Round(time.Minute); age != time.Hour {
			t.Errorf("its age is %v", age)
		}
		if string(b.key) != "abcd" {
			t.Error("its cancel key is lost")
		}
		if r.w.stats.opened != 0 {
			t.Error("it counts as opened here")
		}
	})
	tc.Close()
	expect[*ipc.ClientsGone](r)
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	if m, _ := r.handed(); m.Lease != 9 || m.Backend.AgeMS < 3_600_000 {
		t.Errorf("lease %d, age %d", m.Lease, m.Backend.AgeMS)
	}
}

// A descriptor that arrives after the fence of its epoch is cut at once.
func TestBackendOfAFencedEpochIsCutWhenItArrives(t *testing.T) {
	r := newRig(t, sessions())
	tc := r.connect(1)
	id := expect[*ipc.LeaseRequest](r).ID
	r.send(&ipc.Fence{Epoch: 1, Seq: 1})
	expect[*ipc.Fenced](r)
	fd, server := serverOf(t)
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other) // the supervisor's descriptor, which is still open
	r.sendFD(&ipc.TakeOver{ID: id, Lease: 9, Backend: ipc.BackendState{Key: poolD, Epoch: 1}}, fd)
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 9 {
		t.Errorf("lease %d", m.Lease)
	}
	if n, err := io.Copy(io.Discard, server); n > 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %d bytes and %v, not a reset", n, err)
	}
	if b, l := r.counts(); b != 0 || l != 0 {
		t.Errorf("%d backends, %d live", b, l)
	}
	tc.Close()
}

func TestBackendWithoutItsDescriptorIsReturned(t *testing.T) {
	r := newRig(t, sessions())
	tc := r.connect(1)
	id := expect[*ipc.LeaseRequest](r).ID
	r.do(func() {
		r.w.dispatch(ipc.Envelope{Message: &ipc.TakeOver{ID: id, Lease: 9, Backend: ipc.BackendState{Key: poolD, Epoch: 1}}})
	})
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 9 {
		t.Errorf("lease %d", m.Lease)
	}
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	tc.until(t, &pgproto3.ReadyForQuery{})
}

// A handed-over backend that no client needs any more comes back and serves the next client.
func TestBackendThatComesBackIsOnTheShelf(t *testing.T) {
	r := newRig(t, sessions())
	r.free(1)
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	m, fd := r.handed()
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.sendFD(&ipc.TakeOver{Lease: 2, Backend: m.Backend}, own)
	r.do(func() {})
	r.connect(2).until(t, &pgproto3.ReadyForQuery{})
}

// A handed-over backend keeps its prepared statements, and what a client has left on it is
// removed before another client gets it.
func TestStateOfABackendMovesWithIt(t *testing.T) {
	w := &worker{born: time.Now()}
	b := w.newBackend(&pool.Pool{Key: pool.Key(poolD)}, 1, 1, 0)
	b.Backend = relay.Backend{Dirty: true, DirtyBy: 7}
	known := relay.Holding{Statements: manyStatements(3), Serial: 5, Lost: []string{"pgagroal_x"}}
	b.Restore(known)
	m := &ipc.TakeOver{Lease: 5, Backend: b.portable()}
	got := w.moved(m)
	if !got.Dirty || got.DirtyBy != 7 || got.Lease != 5 {
		t.Errorf("dirty %v by %d", got.Dirty, got.DirtyBy)
	}
	if diff := cmp.Diff(known, got.Holding()); diff != "" {
		t.Error(diff)
	}
}

// manyStatements prepares as many statements as a backend may have.
func manyStatements(n int) []relay.Held {
	list := make([]relay.Held, n)
	for i := range list {
		list[i] = relay.Held{Key: string(append(make([]byte, 14), byte(i), byte(i>>8))), Name: fmt.Sprintf("pgagroal_%d", i)}
	}
	return list
}

func TestStateOfABackendFitsAPacket(t *testing.T) {
	r := newRig(t, sessions())
	r.free(1)
	r.do(func() {
		for _, b := range r.w.backends {
			b.Restore(relay.Holding{Statements: manyStatements(relay.MaxStatements), Serial: 1 << 63})
			b.Params.Set("TimeZone", strings.Repeat("x", 10_000))
		}
	})
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	if m, _ := r.handed(); len(m.Backend.Statements) != relay.MaxStatements {
		t.Errorf("%d statements", len(m.Backend.Statements))
	}
}

func TestBackendWithTooMuchStateIsClosed(t *testing.T) {
	r := newRig(t, sessions())
	srv := r.free(1)
	r.do(func() {
		for _, b := range r.w.backends {
			b.Params.Set("TimeZone", strings.Repeat("x", maxState))
		}
	})
	r.send(&ipc.Reclaim{ID: 1, Key: poolD, Size: 1})
	if typ, _, err := pgwire.ReadMessage(srv.r, 100); err != nil || typ != 'X' {
		t.Fatalf("the server got %q, %v", typ, err)
	}
	srv.Close()
	expect[*ipc.LeaseReturn](r)
}

func TestClientsThatGotNothingAreToldToTheSupervisor(t *testing.T) {
	cfg := sessions()
	cfg.BlockingTimeoutMS = 20
	r := newRig(t, cfg)
	for i := range 3 {
		tc := r.connect(uint64(i))
		tc.until(t, &pgproto3.ErrorResponse{})
	}
	told := 0
	for told < 3 {
		told += expect[*ipc.LeaseAbandon](r).Refused
	}
	if told != 3 {
		t.Errorf("%d were told", told)
	}
}

// sendFD sends a message with a descriptor, which is closed.
func (r *rig) sendFD(m ipc.Message, fd int) {
	r.t.Helper()
	err := r.sup.Send(m, fd)
	unix.Close(fd)
	if err != nil {
		r.t.Fatal(err)
	}
}
