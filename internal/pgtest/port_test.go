package pgtest

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestReservedPortRefusesUntilSomebodyListens(t *testing.T) {
	r, err := reservePort()
	check(t, err)
	defer r.close()
	for range 2 {
		if _, err := net.Dial("tcp", r.addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial: %v, want it refused", err)
		}
		l, err := r.listen()
		check(t, err)
		conn, err := net.Dial("tcp", r.addr())
		check(t, err)
		_ = conn.Close()
		_ = l.Close()
	}
}

func TestReservedPortIsGivenToNobodyElse(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		r, err := reservePort()
		check(t, err)
		defer r.close()
		if seen[r.port] {
			t.Fatalf("port %d was reserved twice", r.port)
		}
		seen[r.port] = true
	}
	for range 200 {
		l, err := net.Listen("tcp", loopback+":0")
		check(t, err)
		defer func() { _ = l.Close() }()
		if port := l.Addr().(*net.TCPAddr).Port; seen[port] {
			t.Fatalf("port %d is reserved and was given away", port)
		}
	}
}

func TestRefusedAddrRefuses(t *testing.T) {
	if _, err := net.Dial("tcp", RefusedAddr(t)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want it refused", err)
	}
}

func TestSilentAddrLetsConnectHang(t *testing.T) {
	_, err := net.DialTimeout("tcp", SilentAddr(t), patience)
	if netErr, ok := errors.AsType[net.Error](err); !ok || !netErr.Timeout() {
		t.Errorf("dial: %v, want a time-out", err)
	}
}
