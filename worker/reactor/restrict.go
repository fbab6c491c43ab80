package reactor

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// registerRestrictions is IORING_REGISTER_RESTRICTIONS; the others are kinds of
// restrictions.
const (
	registerRestrictions = 11

	mayRegister = 0
	mayUse      = 1 // an operation
	mayFlag     = 2 // flags of operations
)

// restriction is struct io_uring_restriction.
type restriction struct {
	kind  uint16
	value uint8
	_     uint8
	_     [3]uint32
}

// restrict limits the ring to the operations that this driver uses. Otherwise a ring could
// open files and make connections, which no filter of system calls sees. Call restrict
// before enable, and after the buffers are registered, which it forbids.
func (r *ring) restrict() error {
	list := []restriction{
		{kind: mayRegister, value: registerRingFDs},
		{kind: mayRegister, value: unregisterRingFDs},
		{kind: mayFlag, value: sqeBufferSelect | sqeSkipSuccess},
	}
	for _, op := range []uint8{opPollAdd, opTimeout, opAsyncCancel, opSend, opRecv} {
		list = append(list, restriction{kind: mayUse, value: op})
	}
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerRestrictions,
		uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), 0, 0)
	if e != 0 {
		return os.NewSyscallError("restrict the ring", e)
	}
	return nil
}
