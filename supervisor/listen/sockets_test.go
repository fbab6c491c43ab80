package listen

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
)

// limit is far more than anything here takes.
const limit = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

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

func socketConfig(dir string) *config.Config {
	c := config.New()
	c.UnixSocketDir, c.Port = dir, 4711
	return c
}

func TestStaleSocketIsRemovedAndOursAtTheEnd(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, ".s.PGSQL.4711")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	k := &Sockets{}
	if err := k.ListenUnix(socketConfig(dir), quiet); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, control.SocketPath(dir, 4711)} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%v, %v", info, err)
		}
	}
	k.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSocketOnWhichAServerAnswersIsRespected(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, ".s.PGSQL.4711")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k := &Sockets{}
	defer k.Close()
	if err := k.ListenUnix(socketConfig(dir), quiet); err == nil || !strings.Contains(err.Error(), "answers") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("it was removed")
	}
}

func TestSocketsOfAnotherPgagroalAreRespected(t *testing.T) {
	dir := shortDir(t)
	first, second := &Sockets{}, &Sockets{}
	defer first.Close()
	if err := first.ListenUnix(socketConfig(dir), quiet); err != nil {
		t.Fatal(err)
	}
	if err := second.ListenUnix(socketConfig(dir), quiet); err == nil || !strings.Contains(err.Error(), "another pgagroal") {
		t.Errorf("%v", err)
	}
	second.Close()
	if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.4711")); err != nil {
		t.Error("the first one's socket is gone")
	}
}

func TestFileInTheWayOfASocketIsRespected(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, ".s.PGSQL.4711")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &Sockets{}
	defer k.Close()
	if err := k.ListenUnix(socketConfig(dir), quiet); err == nil {
		t.Error("no error")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Error("it was removed")
	}
}

func TestPassedSocketsAreNeverRemoved(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "passed")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	passed, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	k := &Sockets{}
	if err := k.Adopt("name", passed); err != nil {
		t.Fatal(err)
	}
	if err := k.ListenUnix(socketConfig(dir), quiet); err != nil {
		t.Fatal(err)
	}
	if len(k.clients) != 1 || !k.unix || k.tcp {
		t.Errorf("%+v", k)
	}
	k.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error("the passed socket was removed")
	}
}

// TestASocketThatWasShutDownListensAgain: a process that shares it can do both to it.
func TestASocketThatWasShutDownListensAgain(t *testing.T) {
	for name, spoil := range map[string]func(fd int) error{
		"shutdown": func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) },
		"connect to nowhere": func(fd int) error {
			_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrAny)
			if e != 0 {
				return e
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			free.Close()
			l, err := net.Listen("tcp", free.Addr().String()) // a port that was asked for by number stays
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			fd, err := Copy(l)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := spoil(fd); err != nil {
				t.Fatal(err)
			}
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
				t.Fatal("it still listens, so this test shows nothing")
			}
			again, err := Copy(l)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(again)
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
	}
}

// TestPassedPortsServeTheirKey: the name of a socket says what it is for, and the key whether it is served.
func TestPassedPortsServeTheirKey(t *testing.T) {
	tcp := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	k, metrics, page, admin := &Sockets{}, tcp(), tcp(), tcp()
	for name, l := range map[string]net.Listener{keyMetrics: metrics, keyConsole: page, keyManagement: admin} {
		if err := k.Adopt(name, l); err != nil {
			t.Fatal(err)
		}
	}
	c := socketConfig(shortDir(t))
	c.Host, c.Metrics = "127.0.0.1", 9 // another port than that of the socket
	if err := k.ListenConsole(c, quiet); err != nil {
		t.Fatal(err)
	}
	if got := k.Console(); len(got) != 1 || got[0].Listener != metrics || got[0].Key != keyMetrics {
		t.Errorf("%v, not only the passed socket of metrics", got)
	}
	reload := func() []Port {
		ch, err := k.Prepare(c, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ch.Commit(NewGate(nil, 1))
		return k.Console()
	}
	c.Metrics, c.Console, c.Management = 0, 10, 11
	if got := reload(); len(got) != 1 || got[0].Listener != page || got[0].Key != keyConsole {
		t.Errorf("%v after a reload, not only the passed socket of the console", got)
	}
	c.Console, c.Admins = 0, []config.Credential{{Name: "admin"}}
	if got := reload(); len(got) != 1 || got[0].Listener != admin || got[0].Key != keyManagement {
		t.Errorf("%v with an admin, not only the passed socket of management", got)
	}
	for _, l := range []net.Listener{metrics, page, admin} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatalf("a passed socket is closed: %v", err)
		}
		nc.Close()
	}
	if k.TCPPassed() || slices.ContainsFunc(k.clients, func(s *socket) bool { return s.name == "" }) {
		t.Error("a port of metrics counts as one for clients")
	}
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := k.Adopt(keyConsole, l); err == nil {
		t.Error("a Unix socket for the console is taken")
	}
}
