package listen

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// listenOn makes the sockets of a configuration that listens at a free port of the loopback address.
func listenOn(t *testing.T, dir string) (*Sockets, *config.Config) {
	t.Helper()
	c := socketConfig(dir)
	c.Host, c.Port = "127.0.0.1", freePort(t)
	k := &Sockets{}
	t.Cleanup(k.Close)
	for _, err := range []error{k.ListenTCP(c, quiet), k.ListenUnix(c, quiet)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.ForClients(c, quiet); err != nil {
		t.Fatal(err)
	}
	return k, c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func dialed(t *testing.T, port int) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// TestClientInTheBacklogOfAClosedPortIsAccepted: it has connected already, so it must not see a reset.
func TestClientInTheBacklogOfAClosedPortIsAccepted(t *testing.T) {
	k, c := listenOn(t, shortDir(t))
	tcp := k.clients[0].ready
	g := NewGate([]*Listener{tcp, k.clients[1].ready}, 10)
	early := []net.Conn{dialed(t, c.Port), dialed(t, c.Port)}
	next := *c
	next.Port = freePort(t)
	ch, err := k.Prepare(&next, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ch.Commit(g)
	if len(ch.Clients) != 2 {
		t.Fatalf("%d new listeners", len(ch.Clients))
	}
	got := make(chan Client, 4)
	a := &Acceptor{Accept: tcp.Next, Gate: g, Take: func(c Client) bool { got <- c; return true }, Fail: func(err error) { t.Error(err) }}
	g.Set(true)
	a.Run(context.Background()) // ends by itself
	if len(got) != len(early) {
		t.Errorf("%d of %d clients were accepted", len(got), len(early))
	}
	for len(got) > 0 {
		unix.Close((<-got).FD)
	}
	if nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port))); err == nil {
		nc.Close()
		t.Error("the old port is still open")
	}
	dialed(t, next.Port)
	if left, _ := filepath.Glob(filepath.Join(c.UnixSocketDir, ".s.*."+strconv.Itoa(c.Port)+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChangeThatIsGivenUpLeavesEverythingAsItWas(t *testing.T) {
	dir := shortDir(t)
	k, c := listenOn(t, dir)
	before, _ := os.ReadDir(dir)
	next := *c
	next.Port = freePort(t)
	ch, err := k.Prepare(&next, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ch.Close()
	if after, _ := os.ReadDir(dir); len(after) != len(before) {
		t.Errorf("%v before, %v after", before, after)
	}
	dialed(t, c.Port)
	if nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(next.Port))); err == nil {
		nc.Close()
		t.Error("the new port is still open")
	}
	// One that can't be had gives all of them up.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	next.Metrics = taken.Addr().(*net.TCPAddr).Port
	if _, err := k.Prepare(&next, quiet); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("a port that is taken: %v", err)
	}
	if nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(next.Port))); err == nil {
		nc.Close()
		t.Error("the new port is open although another one can't be had")
	}
}

func TestPassedSocketsOutliveAChange(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &Sockets{}
	t.Cleanup(k.Close)
	k.Adopt("name", l)
	c := socketConfig(dir)
	if err := k.ListenUnix(c, quiet); err != nil {
		t.Fatal(err)
	}
	list, err := k.ForClients(c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	next := *c
	next.Port = 4712
	ch, err := k.Prepare(&next, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if gone := ch.Gone(); len(ch.Clients) != 1 || len(gone) != 1 || gone[0].Network() != "unix" {
		t.Errorf("%d new listeners, and %v to close", len(ch.Clients), gone)
	}
	ch.Commit(NewGate(list, 1))
	dialed(t, l.Addr().(*net.TCPAddr).Port)
	if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.4712")); err != nil {
		t.Error(err)
	}
}

func TestWhatOnlyARestartCanOpenSaysSo(t *testing.T) {
	for err, want := range map[error]string{unix.EACCES: "below 1024", unix.EADDRINUSE: "wildcard", unix.ENOENT: ""} {
		err = fmt.Errorf("listen: %w", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)})
		got := hinted(err).Error()
		if !strings.HasPrefix(got, err.Error()) || !strings.Contains(got, want) || strings.Contains(got, "restart") != (want != "") {
			t.Errorf("%s, want a word about %q", got, want)
		}
	}
}
