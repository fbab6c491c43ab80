package reactor

import (
	"errors"
	"net"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestTheRingDoesWhatThisDriverDoesAndNothingElse submits one operation of each
// kind to the ring of a driver, and to one without restrictions.
func TestTheRingDoesWhatThisDriverDoesAndNothingElse(t *testing.T) {
	runtime.LockOSThread() // a ring is registered for the thread that enables it
	defer runtime.UnlockOSThread()
	submit := func(r *ring, op, flags uint8) unix.Errno {
		t.Helper()
		if err := r.enable(); err != nil {
			t.Fatal(err)
		}
		s := r.next()
		s.opcode, s.flags, s.fd, s.userData = op, flags, -1, 7
		if e := r.enter(1, 1000, false); e != 0 {
			t.Fatal(e)
		}
		for r.ready() > 0 {
			if c := r.take(); c.userData == 7 {
				return unix.Errno(-c.res)
			}
		}
		t.Fatalf("operation %d has no completion", op)
		return 0
	}
	const async, fixedFile = 1 << 4, 1 << 0
	permitted := map[uint8]bool{opPollAdd: true, opTimeout: true, opAsyncCancel: true, opSend: true, opRecv: true}
	l, err := New("io_uring")
	if err != nil {
		t.Skip("no io_uring here:", err)
	}
	driven := l.drv.(*uring)
	defer driven.release()
	free, err := newRing(8)
	if err != nil {
		t.Fatal(err)
	}
	defer free.close()
	const lastOp = 46 // IORING_OP_URING_CMD
	for op := range uint8(lastOp + 1) {
		if permitted[op] {
			continue
		}
		if e := submit(driven.ring, op, 0); e != unix.EACCES {
			t.Errorf("operation %d: %v, want EACCES", op, e)
		}
		if op > 30 { // what takes a descriptor that doesn't exist
			continue
		}
		if e := submit(free, op, 0); e == unix.EACCES {
			t.Errorf("operation %d is refused by a ring without restrictions: this proves nothing", op)
		}
	}
	for _, flags := range []uint8{async, fixedFile} {
		if e := submit(driven.ring, opSend, flags); e != unix.EACCES {
			t.Errorf("flags %#x: %v, want EACCES", flags, e)
		}
	}
	if e := submit(driven.ring, opSend, 0); e != unix.EBADF {
		t.Errorf("a send to no descriptor: %v, want EBADF", e)
	}
}

// A ring that can't be restricted must not be used.
func TestARingThatCannotBeRestrictedIsAnError(t *testing.T) {
	r, err := newRing(8)
	if err != nil {
		t.Skip("no io_uring here:", err)
	}
	defer r.close()
	if err := r.enable(); err != nil {
		t.Fatal(err)
	}
	if err := r.restrict(); !errors.Is(err, unix.EBADFD) {
		t.Errorf("restricting a ring that is enabled: %v, want EBADFD", err)
	}
}

// What the list of system calls forbids, a send through the ring can do: TCP fast open, which
// connects without asking Landlock. pgagroal-privsep(7) says so; a kernel or a restriction
// that stops it makes the page wrong.
func TestTheRingCanConnectByFastOpen(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l, err := New("io_uring")
	if err != nil {
		t.Skip("no io_uring here:", err)
	}
	driven := l.drv.(*uring)
	defer driven.release()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	port := ln.Addr().(*net.TCPAddr).Port
	to := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(port>>8 | port<<8), Addr: [4]byte{127, 0, 0, 1}}
	text := []byte("x")
	r := driven.ring
	if err := r.enable(); err != nil {
		t.Fatal(err)
	}
	s := r.next()
	s.opcode, s.fd, s.userData, s.opFlags = opSend, int32(fd), 7, unix.MSG_FASTOPEN
	s.addr, s.len = uint64(uintptr(unsafe.Pointer(&text[0]))), 1
	s.off = uint64(uintptr(unsafe.Pointer(&to)))                             // where to send
	*(*uint16)(unsafe.Add(unsafe.Pointer(s), 44)) = unix.SizeofSockaddrInet4 // addr_len of io_uring_sqe
	if e := r.enter(1, 1000, false); e != 0 {
		t.Fatal(e)
	}
	for r.ready() > 0 {
		if c := r.take(); c.userData == 7 && c.res < 0 {
			if e := unix.Errno(-c.res); e == unix.EOPNOTSUPP {
				t.Skip("net.ipv4.tcp_fastopen is off for clients here")
			} else if e != unix.EINPROGRESS {
				t.Fatalf("the send: %v", e)
			}
		}
	}
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatalf("no connection: %v", err)
	}
	conn.Close()
	runtime.KeepAlive(text)
	runtime.KeepAlive(&to)
}
