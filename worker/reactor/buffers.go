package reactor

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferSize and bufferCount are the size and number of the provided buffers of a ring. One
// receive fills one buffer. The kernel uses the buffers in the order in which it got them.
const (
	bufferSize  = 8 << 10
	bufferCount = 256
)

// ringBuf is struct io_uring_buf. In entry 0 the last field is the tail of the ring of
// buffers.
type ringBuf struct {
	addr uint64
	len  uint32
	id   uint16
	tail uint16
}

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	ringAddr    uint64
	ringEntries uint32
	group       uint16
	flags       uint16
	_           [3]uint64
}

// buffers are the provided buffers of a ring, in mapped memory.
type buffers struct {
	mem  []byte
	ring []ringBuf
	raw  []byte
	tail uint16
	// free counts the buffers that the kernel may fill.
	free int
}

func newBuffers(ringFD int) (*buffers, error) {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	raw, err := unix.Mmap(-1, 0, bufferCount*int(unsafe.Sizeof(ringBuf{})), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_POPULATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap of the buffer ring", err)
	}
	mem, err := unix.Mmap(-1, 0, bufferCount*bufferSize, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		_ = unix.Munmap(raw)
		return nil, os.NewSyscallError("mmap of the buffers", err)
	}
	b := &buffers{mem: mem, raw: raw, ring: unsafe.Slice((*ringBuf)(unsafe.Pointer(&raw[0])), bufferCount)}
	reg := bufReg{ringAddr: uint64(uintptr(unsafe.Pointer(&raw[0]))), ringEntries: bufferCount}
	if _, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(ringFD), registerPbufRing, uintptr(unsafe.Pointer(&reg)), 1, 0, 0); e != 0 {
		b.close()
		return nil, os.NewSyscallError("register the buffer ring", e)
	}
	for id := range bufferCount {
		b.give(uint16(id))
	}
	return b, nil
}

// give returns a buffer to the kernel, to be filled again.
func (b *buffers) give(id uint16) {
	e := &b.ring[b.tail%bufferCount]
	e.addr = uint64(uintptr(unsafe.Pointer(&b.mem[int(id)*bufferSize])))
	e.len, e.id = bufferSize, id
	b.tail++
	b.free++
	// The tail shares a word with the id of entry 0, which was written above.
	p := (*uint32)(unsafe.Pointer(&b.ring[0].id))
	atomic.StoreUint32(p, uint32(b.ring[0].id)|uint32(b.tail)<<16)
}

// get returns the first n bytes of a buffer that the kernel has filled.
func (b *buffers) get(id uint16, n int) []byte {
	return b.mem[int(id)*bufferSize:][:n:n]
}

// trim returns the memory of the buffers to the system. All buffers must be empty.
func (b *buffers) trim() { _ = unix.Madvise(b.mem, unix.MADV_DONTNEED) }

func (b *buffers) close() {
	_ = unix.Munmap(b.mem)
	_ = unix.Munmap(b.raw)
}
