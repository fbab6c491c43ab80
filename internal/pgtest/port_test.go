package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
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

// Packages of tests are processes that run side by side.
func TestReservedPortIsGivenToNoOtherProcess(t *testing.T) {
	const together = 200
	if os.Getenv("PGTEST_RESERVES_PORTS") != "" {
		for range together {
			fmt.Println("reserved", Port(t))
		}
		return
	}
	seen := map[int]bool{}
	for range together {
		seen[Port(t)] = true
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PGTEST_RESERVES_PORTS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	others := 0
	for line := range strings.Lines(string(out)) {
		var port int
		if _, err := fmt.Sscanf(line, "reserved %d", &port); err != nil {
			continue
		}
		others++
		if seen[port] {
			t.Errorf("port %d was reserved by two processes", port)
		}
	}
	if others != together {
		t.Errorf("the other process reserved %d ports, want %d:\n%s", others, together, out)
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
