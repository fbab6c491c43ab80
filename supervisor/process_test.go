package supervisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// limit is far more than anything here takes.
const limit = 30 * time.Second

func TestMain(m *testing.M) {
	if fd, role, ok := proc.Link(); ok {
		os.Exit(standIn(fd, role))
	}
	goleak.VerifyTestMain(m)
}

// standIn is a worker that greets each client with its own process id and closes the
// connection. It dies if a client says so.
func standIn(fd int, role proc.Role) int {
	switch role {
	case proc.RoleProber:
		return standInProber(fd)
	case proc.RoleRunner:
		return 3
	}
	conn, err := ipc.FromFD(fd, ipc.RoleWorker, ipc.RoleSupervisor, nil)
	if err != nil {
		return 4
	}
	if err := conn.Send(&ipc.WorkerHello{Version: ipc.Version, PID: os.Getpid()}); err != nil {
		return 5
	}
	for {
		env, err := conn.Receive()
		if err != nil {
			return 6
		}
		switch m := env.Message.(type) {
		case *ipc.ConfigEnd:
			err = conn.Send(&ipc.ConfigDone{Gen: m.Gen, Reactor: "none"})
			conn.SetPhase(ipc.PhaseRunning)
		case *ipc.Ping:
			err = conn.Send(&ipc.Pong{ID: m.ID})
		case *ipc.NewClient:
			greet(env.FDs[0], m.Address)
			err = conn.Send(&ipc.ClientsGone{IDs: []uint64{m.ID}})
		case *ipc.Drain:
			err = conn.Send(&ipc.Drained{})
		}
		if err != nil {
			return 7
		}
	}
}

// standInProber is a prober that answers no look.
func standInProber(fd int) int {
	conn, err := ipc.FromFD(fd, ipc.RoleProber, ipc.RoleSupervisor, nil)
	if err != nil {
		return 4
	}
	if err := conn.Send(&ipc.ProberHello{Version: ipc.Version, PID: os.Getpid()}); err != nil {
		return 5
	}
	if _, err := conn.Receive(); err != nil {
		return 6
	}
	if err := conn.Send(&ipc.ProberReady{}); err != nil {
		return 7
	}
	conn.SetPhase(ipc.PhaseRunning)
	for {
		if _, err := conn.Receive(); err != nil {
			return 0
		}
	}
}

func greet(fd int, address string) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	_, _ = f.WriteString("hello " + address)
	b := make([]byte, 3)
	if n, _ := f.Read(b); string(b[:n]) == "die" {
		os.Exit(9)
	}
}

// shortDir is a directory whose name fits into the address of a Unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var quiet = slog.New(slog.DiscardHandler)

// running starts a whole supervisor with its loop in this process.
func running(t *testing.T) (s *supervisor, tcp, dir string, end func() error) {
	t.Helper()
	return logging(t, quiet)
}

// logging is running with a log.
func logging(t *testing.T, log *slog.Logger) (s *supervisor, tcp, dir string, end func() error) {
	t.Helper()
	dir = shortDir(t)
	c := config.New()
	c.Workers, c.MaxConnections, c.Host, c.Port, c.UnixSocketDir = 2, 10, "127.0.0.1", 4711, dir
	c.Servers = []config.Server{{Name: "one", Host: dir, Port: 1, Primary: true}} // nobody is there
	c.FailoverStartTimeout = 10 * time.Millisecond
	ready := make(chan struct{})
	s, err := newSupervisor(Options{Config: c, Log: log, Ready: func() { close(ready) }}, statedir.Dir{}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k := &listen.Sockets{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Adopt("tcp", ln), k.ListenUnix(c, quiet)); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- s.serve(k) }()
	wait(t, ready, "ready")
	return s, ln.Addr().String(), dir, func() error {
		s.post(s.shutNow)
		select {
		case err := <-result:
			return err
		case <-time.After(limit):
			t.Fatal("it doesn't end")
			return nil
		}
	}
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		t.Fatal("never: " + what)
	}
}

// visit connects, reads the greeting, says word and waits for the end.
func visit(t *testing.T, network, address, word string) string {
	t.Helper()
	nc, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(limit))
	b := make([]byte, 64)
	n, err := nc.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(nc); err != nil && !strings.Contains(err.Error(), "reset") || len(rest) > 0 {
		t.Errorf("after the greeting came %q, %v", rest, err)
	}
	return string(b[:n])
}

func TestClientsReachRealWorkers(t *testing.T) {
	_, tcp, dir, end := running(t)
	for range 20 {
		if got := visit(t, "tcp", tcp, "bye"); !strings.HasPrefix(got, "hello 127.0.0.1:") {
			t.Errorf("greeted with %q", got)
		}
	}
	if got := visit(t, "unix", dir+"/.s.PGSQL.4711", "bye"); got != "hello " {
		t.Errorf("greeted with %q", got)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestServiceGoesOnAfterAWorkerDied(t *testing.T) {
	s, _, dir, end := running(t)
	for deaths := range 2 {
		visit(t, "unix", dir+"/.s.PGSQL.4711", "die")
		until(t, "the dead worker is replaced", func() bool {
			return fromLoop(t, s, func() bool { return s.deaths() > deaths && s.readyCount() == 2 })
		})
		visit(t, "unix", dir+"/.s.PGSQL.4711", "bye")
	}
	if n := fromLoop(t, s, func() int { return s.clients.total }); n < 0 {
		t.Errorf("%d clients", n)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestControlSocketAnswers(t *testing.T) {
	s, _, _, end := running(t)
	o := operator{s}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	// A stand-in never answers a report: the limit ends the wait.
	st, err := o.Status(ctx)
	if err != nil || st.NumberOfServers != 1 || st.Status != control.StatusRunning {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := o.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := o.ClearServer(ctx, "nobody", false); err == nil {
		t.Error("an unknown server was cleared")
	}
	if v, _, err := o.ConfGet(ctx, "max_connections"); err != nil || v == nil {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := o.Shutdown(ctx, controlsocket.ShutdownImmediate, nil); err != nil {
		t.Error(err)
	}
	wait(t, s.ended, "the end")
	if err := end(); err != nil {
		t.Error(err)
	}
	if _, err := o.Ping(ctx); err == nil {
		t.Error("it answers after its end")
	}
}

// deaths counts what restart has seen.
func (s *supervisor) deaths() int {
	n := 0
	for _, sl := range s.workers.slots {
		n += sl.failures
	}
	return n
}

func (s *supervisor) readyCount() int {
	n := 0
	s.ready(func(*child) { n++ })
	return n
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// fromLoop asks the loop and fails the test when it has ended.
func fromLoop[T any](t *testing.T, s *supervisor, f func() T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	v, err := ask(ctx, s, func(answer func(T, error)) { answer(f(), nil) })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSignalEndsIt(t *testing.T) {
	s, _, _, end := running(t)
	s.signals <- syscall.SIGTERM
	wait(t, s.ended, "the end")
	if err := end(); err != nil {
		t.Error(err)
	}
}
