package supervisor

import (
	"os"
	"sync"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// valve stops the reading of a link, so that every message is either handled or still in the
// socket, where the next program in this process reads it.
type valve struct {
	conn   *ipc.Conn
	theirs *os.File // the worker's end, see keep

	mu     sync.Mutex
	opened chan struct{} // nil while the valve is open; closed when it opens again
	still  bool          // the reader waits for that
}

// shut has the reader stop after the message that it is handling.
func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.opened == nil {
		v.opened = make(chan struct{})
		_ = v.conn.Interrupt(true) // fails on a closed link only, whose reader ends
	}
}

// open lets the reader go on.
func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.opened != nil {
		_ = v.conn.Interrupt(false)
		close(v.opened)
		v.opened, v.still = nil, false
	}
}

// isStill reports whether the reader has stopped.
func (v *valve) isStill() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.still
}

// wait is called by the reader when it was interrupted.
func (v *valve) wait() {
	v.mu.Lock()
	opened := v.opened
	v.still = opened != nil
	v.mu.Unlock()
	if opened != nil {
		<-opened
	}
}

// descriptors returns those of both ends of the link.
func (v *valve) descriptors() (ours, theirs int, err error) {
	if ours, err = v.conn.FD(); err != nil {
		return -1, -1, err
	}
	raw, err := v.theirs.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { theirs = int(fd) })
	}
	return ours, theirs, err
}
