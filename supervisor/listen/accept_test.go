package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

func TestWantOfDescriptorsPausesAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls, failed := 0, 0
		poor := func() (Client, error) {
			calls++
			return Client{}, fmt.Errorf("accept: %w", unix.EMFILE)
		}
		a := &Acceptor{Accept: poor, Gate: NewGate(nil, 1000), Fail: func(err error) {
			if errors.Is(err, unix.EMFILE) {
				failed++
			}
		}}
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()
		synctest.Wait()
		if calls != 0 {
			t.Error("accepted through a closed gate")
		}
		a.Gate.Set(true)
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		if calls != 10 || failed != 10 {
			t.Errorf("%d attempts and %d complaints in a second", calls, failed)
		}
		cancel()
		<-done
	})
}

// After a panic the client that it happened with is closed, and the next client is accepted.
func TestPanicOfAnAcceptorCostsOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[1])
		calls, taken, recovered, failed := 0, 0, 0, 0
		bug := errors.New("a bug")
		a := &Acceptor{
			Accept: func() (Client, error) {
				switch calls++; calls {
				case 1:
					panic(bug)
				case 2:
					return Client{FD: pair[0]}, nil
				case 3:
					return Client{FD: -1}, nil
				}
				<-ctx.Done()
				return Client{FD: -1}, unix.ECONNABORTED
			},
			Gate: NewGate(nil, 1), // a client that stays counted would stop the next one
			Take: func(c Client) bool {
				if c.FD == pair[0] {
					panic(bug)
				}
				taken++
				return true
			},
			Fail: func(err error) {
				if errors.Is(err, bug) {
					failed++
				}
			},
			Recovered: func(p any) error { recovered++; return p.(error) },
		}
		a.Gate.Set(true)
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		if recovered != 2 || failed != 2 || taken != 1 {
			t.Errorf("%d panics recovered, %d failures told, %d clients taken", recovered, failed, taken)
		}
		if n, err := unix.Read(pair[1], make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("the client of the panic sees %d bytes and %v, not the end", n, err)
		}
		cancel()
		<-done
	})
}

func TestClosedGateLeavesClientsInTheBacklog(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan Client, 4)
	cl, err := newListener(ln)
	if err != nil {
		t.Fatal(err)
	}
	a := &Acceptor{
		Accept: cl.Next, Gate: NewGate([]*Listener{cl}, 1000), Take: func(c Client) bool { taken <- c; return true },
		Fail: func(err error) { t.Error(err) },
	}
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	connect := func() {
		t.Helper()
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
	}
	take := func() {
		t.Helper()
		select {
		case c := <-taken:
			if fl, err := unix.FcntlInt(uintptr(c.FD), unix.F_GETFD, 0); err != nil || fl&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor flags %d, %v", fl, err)
			}
			if fl, err := unix.FcntlInt(uintptr(c.FD), unix.F_GETFL, 0); err != nil || fl&unix.O_NONBLOCK != 0 {
				t.Errorf("status flags %d, %v", fl, err)
			}
			unix.Close(c.FD)
		case <-time.After(limit):
			t.Fatal("not accepted")
		}
	}
	connect()
	a.Gate.Set(true)
	take()
	// Closing wakes the accept that waits; the next client stays in the backlog.
	a.Gate.Set(false)
	connect()
	a.Gate.Set(true)
	take()
	cancel()
	a.Gate.Shut()
	<-done
	if len(taken) != 0 {
		t.Error("a client was taken twice")
	}
}

// TestClientsGetTheConfiguredOptions: they are inherited from the listener.
func TestClientsGetTheConfiguredOptions(t *testing.T) {
	for _, on := range []bool{true, false} {
		ln, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		k := Sockets{clients: []*socket{{Listener: ln}}}
		list, err := k.ForClients(&config.Config{NoDelay: on, KeepAlive: on}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(list[0].Close)
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		c, err := list[0].Next()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c.FD) })
		if c.Address != nc.LocalAddr().String() {
			t.Errorf("address %q instead of %q", c.Address, nc.LocalAddr())
		}
		for _, o := range []struct{ level, name, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, number(on)},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(on)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveEvery},
		} {
			if got, err := unix.GetsockoptInt(c.FD, o.level, o.name); err != nil || got != o.want {
				t.Errorf("option %d of level %d is %d, want %d: %v", o.name, o.level, got, o.want, err)
			}
		}
	}
}

func TestAddressesAreThoseOfTheClients(t *testing.T) {
	v4 := func(addr [4]byte, port uint16) (a unix.RawSockaddrAny) {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&a)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: addr, Port: portOf(port)}
		return a
	}
	v6 := func(addr [16]byte, port uint16, zone uint32) (a unix.RawSockaddrAny) {
		*(*unix.RawSockaddrInet6)(unsafe.Pointer(&a)) = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: addr, Port: portOf(port), Scope_id: zone}
		return a
	}
	for want, peer := range map[string]unix.RawSockaddrAny{
		"127.0.0.1:5432":   v4([4]byte{127, 0, 0, 1}, 5432),
		"10.1.2.3:80":      v6([16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: 2, 15: 3}, 80, 0),
		"[fe80::1%lo]:443": v6([16]byte{0: 0xfe, 1: 0x80, 15: 1}, 443, 1),
		"":                 {Addr: unix.RawSockaddr{Family: unix.AF_UNIX}},
	} {
		if got := addressOf(&peer); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}
