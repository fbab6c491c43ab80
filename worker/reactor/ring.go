package reactor

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants of linux/io_uring.h that x/sys/unix doesn't have.
const (
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupRDisabled    = 1 << 6
	setupSubmitAll    = 1 << 7
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13

	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	featExtArg     = 1 << 8
	featCQESkip    = 1 << 11

	enterGetEvents      = 1 << 0
	enterExtArg         = 1 << 3
	enterRegisteredRing = 1 << 4

	registerEnableRings = 12
	registerRingFDs     = 20
	unregisterRingFDs   = 21
	registerPbufRing    = 22

	sqOverflow = 1 << 1 // IORING_SQ_CQ_OVERFLOW

	offSQRing = 0
	offSQEs   = 0x10000000

	opPollAdd     = 6
	opTimeout     = 11
	opAsyncCancel = 14
	opSend        = 26
	opRecv        = 27

	sqeBufferSelect = 1 << 5 // IOSQE_BUFFER_SELECT
	sqeSkipSuccess  = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS
	recvMultishot   = 1 << 1 // in ioprio
	pollMultishot   = 1 << 0 // in len

	cancelAll = 1 << 0
	cancelFD  = 1 << 1

	cqeBuffer = 1 << 0
	cqeMore   = 1 << 1
)

// sqe is struct io_uring_sqe.
type sqe struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	off      uint64
	addr     uint64
	len      uint32
	opFlags  uint32
	userData uint64
	bufGroup uint16
	_        uint16
	_        uint32
	_        [2]uint64
}

// cqe is struct io_uring_cqe.
type cqe struct {
	userData uint64
	res      int32
	flags    uint32
}

type sqOffsets struct {
	head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
	_                                                           uint64
}

type cqOffsets struct {
	head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
	_                                                           uint64
}

type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sqOff                                                                  sqOffsets
	cqOff                                                                  cqOffsets
}

// ring is a submission queue and a completion queue. Both are in mapped memory, which the
// kernel shares, never in Go's memory.
type ring struct {
	fd      int
	queues  []byte // both rings
	sqeMem  []byte
	sqHead  *uint32
	sqTail  *uint32
	sqMask  uint32
	sqFlags *uint32
	sqes    []sqe
	cqHead  *uint32
	cqTail  *uint32
	cqMask  uint32
	cqLost  *uint32
	cqes    []cqe
	tail    uint32 // of this process; ahead of *sqTail until the next enter
	enabled bool
	// calls is the number of the ring in system calls: its descriptor, or, if registered
	// is enterRegisteredRing, an index that saves the kernel the look-up.
	calls      int
	registered uintptr
	// arg, limit and tick are fields of this heap object because the kernel gets their
	// addresses, and a stack may move.
	arg   enterArg
	limit unix.Timespec
	tick  unix.Timespec
}

// newRing returns a ring with space for entries submissions.
func newRing(entries uint32) (*ring, error) {
	p := ringParams{
		flags:     setupCQSize | setupClamp | setupRDisabled | setupSubmitAll | setupSingleIssuer | setupDeferTaskrun,
		cqEntries: 8 * entries,
	}
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return nil, os.NewSyscallError("io_uring_setup", e)
	}
	r := &ring{fd: int(fd), calls: int(fd), tick: unix.NsecToTimespec(tickTime)}
	unix.CloseOnExec(r.fd)
	if need := uint32(featSingleMmap | featNoDrop | featExtArg | featCQESkip); p.features&need != need {
		r.close()
		return nil, fmt.Errorf("io_uring lacks features: has %#x, needs %#x", p.features, need)
	}
	if err := r.mmap(&p); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mmap(p *ringParams) error {
	size := max(p.sqOff.array+p.sqEntries*4, p.cqOff.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{})))
	var err error
	if r.queues, err = unix.Mmap(r.fd, offSQRing, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap of the rings", err)
	}
	sqeSize := int(p.sqEntries) * int(unsafe.Sizeof(sqe{}))
	if r.sqeMem, err = unix.Mmap(r.fd, offSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap of the submissions", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queues[off])) }
	r.sqHead, r.sqTail, r.sqMask = at(p.sqOff.head), at(p.sqOff.tail), *at(p.sqOff.ringMask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cqOff.head), at(p.cqOff.tail), *at(p.cqOff.ringMask)
	r.sqFlags, r.cqLost = at(p.sqOff.flags), at(p.cqOff.overflow)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.sqeMem[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.queues[p.cqOff.cqes])), p.cqEntries)
	// The indirection array isn't used: its entry i is always submission i.
	array := unsafe.Slice((*uint32)(unsafe.Pointer(&r.queues[p.sqOff.array])), p.sqEntries)
	for i := range array {
		array[i] = uint32(i)
	}
	r.tail = *r.sqTail
	return nil
}

// enable binds the ring to the calling thread. No other thread may use it then.
func (r *ring) enable() error {
	if r.enabled {
		return nil
	}
	r.enabled = true
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerEnableRings, 0, 0, 0, 0)
	if e != 0 {
		return os.NewSyscallError("enable the ring", e)
	}
	u := ringUpdate{offset: ^uint32(0), data: uint64(r.fd)}
	n, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerRingFDs, uintptr(unsafe.Pointer(&u)), 1, 0, 0)
	if e == 0 && n == 1 { // without this index the ring works, too
		r.calls, r.registered = int(u.offset), enterRegisteredRing
	}
	return nil
}

// ringUpdate is struct io_uring_rsrc_update.
type ringUpdate struct {
	offset, _ uint32
	data      uint64
}

// unregister removes the index that enable registered for the calling thread, because it
// would keep the ring alive.
func (r *ring) unregister() {
	if r.registered == 0 {
		return
	}
	u := ringUpdate{offset: uint32(r.calls)}
	_, _, _ = unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), unregisterRingFDs, uintptr(unsafe.Pointer(&u)), 1, 0, 0)
	r.calls, r.registered = r.fd, 0
}

// next returns a cleared submission. If the queue is full, it first submits it to
// the kernel.
func (r *ring) next() *sqe {
	for r.tail-atomic.LoadUint32(r.sqHead) >= uint32(len(r.sqes)) {
		r.enter(0, 0, true)
	}
	s := &r.sqes[r.tail&r.sqMask]
	*s = sqe{}
	r.tail++
	return s
}

// enterArg is struct io_uring_getevents_arg.
type enterArg struct {
	sigmask   uint64
	sigmaskSz uint32
	_         uint32
	ts        uint64
}

// enter submits the queue and waits until there are wait completions, or for limit
// milliseconds if limit isn't negative. A raw call keeps the processor from Go's scheduler,
// so it is only for short waits.
func (r *ring) enter(wait, limit int, raw bool) unix.Errno {
	n := r.tail - atomic.LoadUint32(r.sqHead)
	atomic.StoreUint32(r.sqTail, r.tail)
	flags := enterGetEvents | r.registered
	var arg unsafe.Pointer
	var size uintptr
	if wait > 0 && limit >= 0 {
		r.limit = unix.NsecToTimespec(int64(limit) * 1e6)
		r.arg.ts = uint64(uintptr(unsafe.Pointer(&r.limit)))
		flags, arg, size = flags|enterExtArg, unsafe.Pointer(&r.arg), unsafe.Sizeof(r.arg)
	}
	if raw {
		_, _, e := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.calls), uintptr(n), uintptr(wait), flags, uintptr(arg), size)
		return e
	}
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.calls), uintptr(n), uintptr(wait), flags, uintptr(arg), size)
	return e
}

// submitted reports whether the kernel has taken all submissions.
func (r *ring) submitted() bool { return atomic.LoadUint32(r.sqHead) == r.tail }

// overflowed reports whether the kernel has completions that don't fit into the queue. The
// next enter moves as many of them into the queue as fit.
func (r *ring) overflowed() bool {
	if atomic.LoadUint32(r.cqLost) != 0 {
		panic("reactor: the kernel had no memory for a completion") // pending would stay wrong
	}
	return atomic.LoadUint32(r.sqFlags)&sqOverflow != 0
}

// ready returns how many completions are in the queue.
func (r *ring) ready() uint32 { return atomic.LoadUint32(r.cqTail) - *r.cqHead }

// peek returns the completion i of the queue, counted from the oldest, without removing it.
func (r *ring) peek(i uint32) *cqe { return &r.cqes[(*r.cqHead+i)&r.cqMask] }

// take removes the oldest completion from the queue and returns it.
func (r *ring) take() cqe {
	h := *r.cqHead
	c := r.cqes[h&r.cqMask]
	atomic.StoreUint32(r.cqHead, h+1)
	return c
}

func (r *ring) close() {
	r.unregister()
	if r.sqeMem != nil {
		_ = unix.Munmap(r.sqeMem)
	}
	if r.queues != nil {
		_ = unix.Munmap(r.queues)
	}
	unix.Close(r.fd)
}
