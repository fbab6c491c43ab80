package reactor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveSize is how much is read at once. It fits into the second-level cache.
const receiveSize = 64 << 10

// epoll is the driver for the epoll interface, level-triggered.
type epoll struct {
	loop *Loop
	fd   int
	// event is the eventfd that wakes the loop; tick is the timer that ends a raw wait.
	event, tick int
	// ticking says that the timer is running, lively that an event has come since it
	// was started.
	ticking, lively bool
	conns           []*Conn // by descriptor
	polled          map[int32]func() bool
	due             []int32 // descriptors with events in this turn
	events          [128]unix.EpollEvent
	buf             []byte
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
	p := &epoll{loop: l, fd: fd, event: ev, tick: -1, buf: make([]byte, receiveSize), polled: make(map[int32]func() bool)}
	if err := p.poll(ev, func() bool { return drainEvent(ev) }); err != nil {
		p.shut()
		return nil, err
	}
	if p.tick, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		p.shut()
		return nil, fmt.Errorf("make timerfd: %w", err)
	}
	// Edge-triggered, so the timer need not be read.
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(p.tick)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p.tick, &e); err != nil {
		p.shut()
		return nil, fmt.Errorf("watch timerfd: %w", err)
	}
	return p, nil
}

// epollState is what the kernel knows of a connection.
type epollState struct {
	watched bool
	events  uint32
}

func (p *epoll) name() string { return "epoll" }

func (p *epoll) newConn() *Conn { return &Conn{} }

// held and flying are 0: all queued bytes are in the connection's own queue.
func (p *epoll) held(*Conn) int   { return 0 }
func (p *epoll) flying(*Conn) int { return 0 }

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
		case armed, awaiting:
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

// update keeps a connection in the epoll set only while some event matters. The kernel
// always reports errors and hang-ups, which would otherwise keep the loop spinning.
func (p *epoll) update(c *Conn) {
	if c.closed {
		return
	}
	ev := wanted(c)
	if ev == unix.EPOLLRDHUP && c.set.watched && c.set.events == unix.EPOLLIN {
		return // dispatch changes it if the peer sends bytes, which is rare while it waits
	}
	if ev == 0 {
		p.leave(c)
		return
	}
	if c.set.watched && c.set.events == ev {
		return
	}
	op := unix.EPOLL_CTL_MOD
	if !c.set.watched {
		op = unix.EPOLL_CTL_ADD
	}
	e := unix.EpollEvent{Events: ev, Fd: int32(c.fd)}
	if err := unix.EpollCtl(p.fd, op, c.fd, &e); err != nil {
		// The only possible reasons are lack of memory and the limit of watches.
		c.broken = fmt.Errorf("watch connection: %w", err)
		p.loop.late = append(p.loop.late, c)
		return
	}
	c.set = epollState{watched: true, events: ev}
}

func (p *epoll) leave(c *Conn) {
	if c.set.watched {
		_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
		c.set.watched = false
	}
}

func (p *epoll) close(c *Conn, abort bool) {
	p.leave(c)
	p.conns[c.fd] = nil
	if abort {
		// A plain close would still deliver queued bytes, even a COMMIT.
		disconnect(c.fd)
	}
	unix.Close(c.fd)
	c.fd = -1
}

func (p *epoll) send(c *Conn, b []byte) {
	if len(c.out) > 0 {
		c.queue(b)
		return
	}
	n, err := write(c.fd, b)
	if err != nil {
		c.fail(err)
		return
	}
	if n < len(b) {
		c.queue(b[n:])
		p.update(c)
	}
}

// flush sends queued bytes, when the kernel has room again.
func (p *epoll) flush(c *Conn) {
	n, err := write(c.fd, c.out)
	if err != nil {
		c.fail(err)
		return
	}
	if n < len(c.out) {
		c.out = c.out[:copy(c.out, c.out[n:])]
		return
	}
	c.unqueue()
	p.update(c)
	c.handler.Flushed()
}

func (p *epoll) turn(limit int) {
	n := p.wait(limit)
	p.loop.awake()
	for i := range n {
		e := &p.events[i]
		if int(e.Fd) == p.tick {
			p.ticking = false
			continue
		}
		p.lively = true
		if p.polled[e.Fd] != nil {
			p.due = append(p.due, e.Fd)
			continue
		}
		c := p.conns[e.Fd]
		if c != nil {
			p.dispatch(c, e.Events)
		}
	}
	// The polled descriptors come last, because their functions may add connections. A
	// connection that was closed in this turn may have left an event for a descriptor with
	// the same number.
	for _, fd := range p.due {
		if !p.polled[fd]() {
			delete(p.polled, fd)
			_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
		}
	}
	p.due = p.due[:0]
}

func (p *epoll) poll(fd int, f func() bool) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("poll descriptor: %w", err)
	}
	p.polled[int32(fd)] = f
	return nil
}

// wait waits for events, as doc.go says. While each tick of the timer has seen an event, it
// uses raw calls; after a tick without one, a call that gives the processor to the
// scheduler. A time limit for each raw call would cost one timer per call.
func (p *epoll) wait(limit int) int {
	if p.lively && !p.ticking && limit != 0 {
		p.lively = false
		p.startTick()
	}
	if p.ticking || limit == 0 {
		if limit != 0 {
			limit = -1
		}
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd),
			uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(limit), 0, 0)
		if e != 0 {
			return 0 // EINTR: check timers and posts first
		}
		return int(n)
	}
	n, err := unix.EpollWait(p.fd, p.events[:], limit)
	if err != nil {
		return 0
	}
	return n
}

// startTick starts the timer, which ends one raw wait after tickTime.
func (p *epoll) startTick() {
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(tickTime)}
	p.ticking = unix.TimerfdSettime(p.tick, 0, &once, nil) == nil
}

func (p *epoll) dispatch(c *Conn, ev uint32) {
	if ev&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		p.flush(c)
	}
	if c.closed || c.ended || p.conns[c.fd] != c {
		return
	}
	gone := ev&(unix.EPOLLHUP|unix.EPOLLERR) != 0
	switch {
	case c.state == watching && c.set.events == unix.EPOLLIN && !gone:
		c.set.events = 0
		p.update(c)
	case c.state == armed && (gone || ev&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0):
		p.receive(c)
	case c.state == awaiting && (gone || ev&unix.EPOLLIN != 0):
		c.awaited()
	case c.state == watching && (gone || ev&unix.EPOLLRDHUP != 0):
		c.tellEnd(ErrGone)
	case gone && len(c.out) > 0:
		c.fail(unix.EPIPE)
	}
}

func (p *epoll) receive(c *Conn) {
	n, e := receive(c.fd, p.buf)
	switch {
	case n > 0:
		c.received(p.buf[:n])
	case e == unix.EAGAIN || e == unix.EINTR:
	default:
		c.tellEnd(errno(e))
	}
}

// catchUp has nothing to do: bytes of a paused connection are in the kernel.
func (p *epoll) catchUp(*Conn) {}

func (p *epoll) wake() { wakeEvent(p.event) }

func (p *epoll) trim() {}

func (p *epoll) shut() {
	for _, c := range p.conns {
		if c != nil {
			c.Close()
		}
	}
	if p.tick >= 0 {
		unix.Close(p.tick)
	}
	unix.Close(p.event)
	unix.Close(p.fd)
}
