package reactor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveSize is how much is read at once. It fits the second-level cache.
const receiveSize = 64 << 10

// epoll is the driver for the epoll interface, level-triggered.
type epoll struct {
	loop *Loop
	fd   int
	// event is the eventfd that wakes the loop.
	event  int
	conns  []*Conn // by descriptor
	events [128]unix.EpollEvent
	buf    []byte
}

func newEpoll(l *Loop) (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	p := &epoll{loop: l, fd: fd, event: ev, buf: make([]byte, receiveSize)}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(ev)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, ev, &e); err != nil {
		p.close()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return p, nil
}

func (p *epoll) add(c *Conn) error {
	for len(p.conns) <= c.fd {
		p.conns = append(p.conns, nil)
	}
	p.conns[c.fd] = c
	return nil
}

// wanted returns the events that matter for c now, 0 for none.
func wanted(c *Conn) uint32 {
	var ev uint32
	if !c.ended {
		switch c.state {
		case armed:
			ev |= unix.EPOLLIN
		case watching:
			ev |= unix.EPOLLRDHUP
		}
	}
	if len(c.out) > 0 {
		ev |= unix.EPOLLOUT
	}
	return ev
}

// update keeps a connection in the set only while some event matters: errors
// and hang-ups are always reported and would keep the loop spinning.
func (p *epoll) update(c *Conn) {
	if c.closed {
		return
	}
	ev := wanted(c)
	if ev == 0 {
		p.leave(c)
		return
	}
	if c.inSet && c.events == ev {
		return
	}
	op := unix.EPOLL_CTL_MOD
	if !c.inSet {
		op = unix.EPOLL_CTL_ADD
	}
	e := unix.EpollEvent{Events: ev, Fd: int32(c.fd)}
	if err := unix.EpollCtl(p.fd, op, c.fd, &e); err != nil {
		// Only memory or the limit of watches can be the reason.
		c.broken = fmt.Errorf("watch connection: %w", err)
		p.loop.ended = append(p.loop.ended, c)
		return
	}
	c.inSet, c.events = true, ev
}

func (p *epoll) leave(c *Conn) {
	if c.inSet {
		_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
		c.inSet = false
	}
}

func (p *epoll) remove(c *Conn) {
	p.leave(c)
	p.conns[c.fd] = nil
}

func (p *epoll) turn(limit int) {
	n := p.wait(limit)
	p.loop.awake()
	for i := range n {
		e := &p.events[i]
		if int(e.Fd) == p.event {
			p.drain()
			continue
		}
		c := p.conns[e.Fd]
		if c != nil {
			p.dispatch(c, e.Events)
		}
	}
}

// wait is the hybrid of ARCHITECTURE 4: a raw call that keeps the processor of
// the scheduler for at most a millisecond, then one that gives it up.
func (p *epoll) wait(limit int) int {
	short := min(limit, 1)
	if limit < 0 {
		short = 1
	}
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
		uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(short), 0, 0)
	if e != 0 {
		return 0 // EINTR: come back after a look at timers and posts
	}
	if n > 0 || (limit >= 0 && limit <= 1) {
		return int(n)
	}
	if limit > 0 {
		limit--
	}
	m, err := unix.EpollWait(p.fd, p.events[:], limit)
	if err != nil {
		return 0
	}
	return m
}

func (p *epoll) drain() {
	var b [8]byte
	_, _ = unix.Read(p.event, b[:])
}

func (p *epoll) dispatch(c *Conn, ev uint32) {
	if ev&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		c.flush()
	}
	if c.closed || c.ended || p.conns[c.fd] != c {
		return
	}
	gone := ev&(unix.EPOLLHUP|unix.EPOLLERR) != 0
	switch {
	case c.state == armed && (gone || ev&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0):
		p.receive(c)
	case c.state == watching && (gone || ev&unix.EPOLLRDHUP != 0):
		c.tellEnd(ErrGone)
	case gone && len(c.out) > 0:
		c.fail(unix.EPIPE)
	}
}

func (p *epoll) receive(c *Conn) {
	n, e := read(c.fd, p.buf)
	switch {
	case n > 0:
		c.handler.Received(p.buf[:n])
	case e == unix.EAGAIN || e == unix.EINTR:
	default:
		c.tellEnd(errno(e))
	}
}

func (p *epoll) wake() {
	one := [8]byte{1}
	_, _ = unix.Write(p.event, one[:])
}

func (p *epoll) close() {
	for _, c := range p.conns {
		if c != nil {
			c.Close()
		}
	}
	unix.Close(p.event)
	unix.Close(p.fd)
}

// read and write are raw: the descriptors are non-blocking, so the calls can't
// hold up the scheduler.
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// write returns how much the kernel took; a full socket is not an error.
func write(fd int, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, e
		}
	}
}
