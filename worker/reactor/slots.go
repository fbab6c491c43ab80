package reactor

import (
	"os"

	"golang.org/x/sys/unix"
)

// slots are pieces of mapped memory for sends. They have two sizes, because most sends are
// small.
type slots struct {
	all   []byte
	more  [][]byte // further blocks, each with slotCount large slots
	small []int32  // free small slots
	large []int32  // free large slots
}

// The small slots come first, in memory and in numbers.
const (
	smallCount = 1024
	smallBytes = smallCount * smallSize
)

func newSlots() (*slots, error) {
	mem, err := unix.Mmap(-1, 0, smallBytes+slotCount*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap of the slots", err)
	}
	s := &slots{all: mem}
	for i := int32(smallCount - 1); i >= 0; i-- {
		s.small = append(s.small, i)
	}
	for i := int32(slotCount - 1); i >= 0; i-- {
		s.large = append(s.large, smallCount+i)
	}
	return s, nil
}

// get returns a slot for n bytes and its memory, which may be smaller than n. The slot is
// negative if there is none. get prefers the slot that was put back last, because its
// memory is in the cache.
func (s *slots) get(n int) (int32, []byte) {
	from := &s.small
	if n > smallSize && len(s.large) > 0 || len(s.small) == 0 {
		from = &s.large
	}
	if len(*from) == 0 {
		// Peers that don't read occupy their slots. Other connections must not wait for
		// these.
		if !s.grow() {
			return -1, nil
		}
		from = &s.large
	}
	i := (*from)[len(*from)-1]
	*from = (*from)[:len(*from)-1]
	return i, s.mem(i)
}

// grow adds large slots. Their memory is never unmapped, but costs nothing until it is used.
func (s *slots) grow() bool {
	mem, err := unix.Mmap(-1, 0, slotCount*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	s.more = append(s.more, mem)
	first := int32(smallCount + len(s.more)*slotCount)
	for i := int32(slotCount - 1); i >= 0; i-- {
		s.large = append(s.large, first+i)
	}
	return true
}

func (s *slots) mem(i int32) []byte {
	if i < smallCount {
		return s.all[int(i)*smallSize:][:smallSize]
	}
	if i >= smallCount+slotCount {
		i -= smallCount + slotCount
		return s.more[i/slotCount][int(i%slotCount)*slotSize:][:slotSize]
	}
	return s.all[smallBytes+int(i-smallCount)*slotSize:][:slotSize]
}

func (s *slots) put(i int32) {
	if i < smallCount {
		s.small = append(s.small, i)
		return
	}
	s.large = append(s.large, i)
}

// trim returns the memory of the slots to the system if none is in use.
func (s *slots) trim() {
	if len(s.small) < smallCount || len(s.large) < (1+len(s.more))*slotCount {
		return
	}
	_ = unix.Madvise(s.all, unix.MADV_DONTNEED)
	for _, mem := range s.more {
		_ = unix.Madvise(mem, unix.MADV_DONTNEED)
	}
}

func (s *slots) any() bool { return len(s.small) > 0 || len(s.large) > 0 }

func (s *slots) close() {
	_ = unix.Munmap(s.all)
	for _, mem := range s.more {
		_ = unix.Munmap(mem)
	}
}
