package reactor

import (
	"errors"
	"runtime"
	"testing"

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
