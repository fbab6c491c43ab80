package reactor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The flow of bytes through a ring:
//
//  1. An armed connection has one multishot receive in the kernel, which fills
//     provided buffers and completes once for each (onReceive).
//  2. The Handler sends from within Received. What it sends is copied into a
//     slot of mapped memory and becomes one submission; while that is in progress
//     further bytes are queued (send, launch).
//  3. turn hands all submissions to the kernel and waits for completions, in one
//     system call. The kernel accepts nearly every send at once. Such a send makes no
//     completion, because a completion would end the wait (sent). Any other send fails
//     with a completion, and is repeated as a send that waits for room (onSend).
//  4. A finished send launches the queued bytes.
//
// As long as the kernel has an operation on a connection, the connection stays in
// the table and its descriptor open, even if the Handler has closed it: closing a
// descriptor under an armed receive sends no FIN, and another file could get its
// number. The descriptor is closed after the last operation's final completion
// (settle).

// The operations. The user data of a submission contains one of them.
const (
	uReceive = iota + 1
	uSend
	uPoll
	uCancel
	uTick
	uPolled
)

// tickTime is how long the loop waits with raw calls without an event, in nanoseconds.
const tickTime = 1e6

// slotSize and smallSize are the sizes of large and small slots, and so the most that one
// send transfers. slotCount is how many large slots a block has.
const (
	slotSize  = 64 << 10
	slotCount = 64
	smallSize = 2 << 10
)

// bulkCredit is how many small receives in a row end the bulk mode of a connection. A few
// small receives occur between the large ones of a large result.
const bulkCredit = 16

// ringState is the driver's state of a connection.
type ringState struct {
	index    int32 // in the table
	slot     int32 // of the send in progress, negative for none
	flying   int32 // bytes of that send
	sent     int32 // how many of these bytes the kernel has accepted
	next     int32 // slot of the next send, negative for none
	nextLen  int32
	pending  int32      // operations in the kernel
	end      unix.Errno // error that ended the receive, to be reported after the stash
	stash    []byte     // bytes that were received but not delivered
	finished bool       // the receive has seen the end
	// receiving and polling say that the kernel has such an operation, stopping that it is
	// being cancelled.
	receiving, polling, stopping bool
	awaits                       bool // the poll waits for bytes, too
	// now says that a send was submitted that the kernel carries out at once or not at all.
	now     bool
	waiting bool // for a slot
	// bulk is above zero while so many bytes arrive that single receives into a large slot
	// are cheaper than a multishot receive, which would have to be cancelled at each pause.
	// Each small receive decrements it. into is the slot of a single receive in progress,
	// negative otherwise.
	bulk uint8
	into int32
}

// uring is the driver for io_uring.
type uring struct {
	loop   *Loop
	ring   *ring
	bufs   *buffers
	slots  *slots
	event  int
	conns  []*Conn
	free   []int32
	hungry []*Conn // connections that wait for a slot
	// loan is the slot whose bytes a Handler gets just now, negative for none. A Send of
	// bytes from the slot's beginning takes the slot over instead of copying them.
	loan int32
	// launched are the connections with a send that the next system call finishes unless a
	// completion reports a failure. spare is the memory of the previous list.
	launched, spare []*Conn
	// ticking says that a timer's completion will come within tickTime, lively that an
	// event has come since the timer was started.
	ticking, lively bool
	// polled are the descriptors of Poll.
	polled []pollee
	// starved are armed connections whose receive has ended because there were no
	// buffers.
	starved  []*Conn
	shutting bool
}

func newUring(l *Loop) (*uring, error) {
	r, err := newRing(1024)
	if err != nil {
		return nil, err
	}
	u := &uring{loop: l, ring: r, event: -1, loan: -1}
	if u.bufs, err = newBuffers(r.fd); err != nil {
		u.release()
		return nil, err
	}
	if err = r.restrict(); err != nil {
		u.release()
		return nil, err
	}
	if u.slots, err = newSlots(); err != nil {
		u.release()
		return nil, err
	}
	if u.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		u.release()
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	return u, u.poll(u.event, func() bool { return drainEvent(u.event) })
}

func (u *uring) name() string { return "io_uring" }

// newConn allocates the connection and the driver's state in one piece.
func (u *uring) newConn() *Conn {
	c := &struct {
		Conn
		state ringState
	}{}
	c.ring = &c.state
	return &c.Conn
}

func (u *uring) held(c *Conn) int   { return int(c.ring.nextLen) }
func (u *uring) flying(c *Conn) int { return int(c.ring.flying) }

func userData(index int32, op uint64) uint64 { return uint64(uint32(index))<<8 | op }

func (u *uring) add(c *Conn) error {
	// With a non-blocking descriptor io_uring would answer EAGAIN instead of
	// waiting.
	if err := unix.SetNonblock(c.fd, false); err != nil {
		return fmt.Errorf("add connection: %w", err)
	}
	c.ring.slot, c.ring.next, c.ring.into = -1, -1, -1
	if n := len(u.free); n > 0 {
		c.ring.index = u.free[n-1]
		u.free = u.free[:n-1]
		u.conns[c.ring.index] = c
		return nil
	}
	c.ring.index = int32(len(u.conns))
	u.conns = append(u.conns, c)
	return nil
}

// update adjusts the kernel's operations on c to what is wanted. If an operation
// has to be cancelled first, its completion calls update again.
func (u *uring) update(c *Conn) {
	st := c.ring
	want := !c.closed && !c.ended
	receive, poll := want && c.state == armed && !st.finished, want && (c.state == watching || c.state == awaiting)
	if st.receiving && c.state == watching && want && len(st.stash) == 0 {
		// The receive reports the end, too, and bytes are rare while the peer waits.
		return
	}
	if st.receiving && want && c.state == paused {
		if st.into < 0 {
			st.bulk = bulkCredit
		} else {
			return // the receive ends by itself, after one slot at most
		}
	}
	if st.receiving && !receive || st.polling && (!poll || st.awaits != (c.state == awaiting)) {
		u.stop(c)
		return
	}
	if want && c.state == armed && (len(st.stash) > 0 || st.finished) {
		u.loop.late = append(u.loop.late, c) // delivered at the end of the turn
		return
	}
	if receive && !st.receiving {
		u.receive(c)
	}
	if poll && !st.polling {
		s := u.submit(c, opPollAdd, uPoll)
		s.opFlags = unix.POLLRDHUP
		if c.state == awaiting {
			s.opFlags |= unix.POLLIN
		}
		st.polling, st.awaits = true, c.state == awaiting
	}
}

// submit prepares an operation on a connection.
func (u *uring) submit(c *Conn, opcode uint8, op uint64) *sqe {
	s := u.ring.next()
	s.opcode, s.fd, s.userData = opcode, int32(c.fd), userData(c.ring.index, op)
	c.ring.pending++
	return s
}

func (u *uring) receive(c *Conn) {
	if c.ring.bulk > 0 && u.receiveSlot(c) {
		return
	}
	s := u.submit(c, opRecv, uReceive)
	s.flags, s.ioprio = sqeBufferSelect, recvMultishot
	c.ring.receiving = true
}

// receiveSlot receives once, into a large slot. It returns false if there is none.
func (u *uring) receiveSlot(c *Conn) bool {
	slot, mem := u.slots.get(slotSize)
	if slot < smallCount {
		if slot >= 0 {
			u.slots.put(slot)
		}
		return false
	}
	s := u.submit(c, opRecv, uReceive)
	s.addr, s.len = uint64(uintptr(unsafe.Pointer(&mem[0]))), slotSize
	c.ring.receiving, c.ring.into = true, slot
	return true
}

// stop cancels the receive or poll of a connection.
func (u *uring) stop(c *Conn) {
	if c.ring.stopping {
		return
	}
	c.ring.stopping = true
	op := uint64(uReceive)
	if c.ring.polling {
		op = uPoll
	}
	s := u.submit(c, opAsyncCancel, uCancel)
	s.fd, s.addr = -1, userData(c.ring.index, op)
}

func (u *uring) close(c *Conn, abort bool) {
	if abort {
		disconnect(c.fd)
	}
	st := c.ring
	switch {
	case st.pending == 0:
	case st.pending == 1 && (st.polling || st.receiving) && !st.stopping:
		u.stop(c) // to cancel all operations of a descriptor, the kernel would have to search all it has
	default:
		// The kernel first carries out earlier submissions. So bytes that it can accept
		// at once are delivered, as with a plain close after a send.
		s := u.submit(c, opAsyncCancel, uCancel)
		s.opFlags = cancelFD | cancelAll
	}
	u.settle(c)
}

// settle completes the Close or Detach of a connection, once the kernel has no operation on
// it.
func (u *uring) settle(c *Conn) {
	if c.detach != nil && c.ring.pending == 0 {
		u.part(c)
		return
	}
	if !c.closed || c.ring.pending > 0 || c.fd < 0 {
		return
	}
	u.giveSlot(c)
	for _, slot := range []*int32{&c.ring.into, &c.ring.next} {
		if *slot >= 0 {
			u.slots.put(*slot)
			*slot = -1
		}
	}
	unix.Close(c.fd)
	c.fd = -1
	u.forget(c)
}

func (u *uring) turn(limit int) {
	if err := u.ring.enable(); err != nil {
		panic(fmt.Sprintf("reactor: %v", err)) // the kernel has made the ring, so it must be able to enable it
	}
	u.wait(limit)
	u.loop.awake()
	u.sent()
	for n := u.ring.ready(); n > 0; n-- {
		u.complete(u.ring.take())
	}
	u.feed()
}

// wait submits the queue and waits for completions, as doc.go says. While each tick has
// seen an event, it uses raw calls; after a tick without one, a call that gives the
// processor to the scheduler. A tick is a time-out operation of the ring. A time limit for
// each raw call would cost one timer per call.
func (u *uring) wait(limit int) {
	switch {
	case limit == 0 || u.hasMore() || u.ring.overflowed():
		u.ring.enter(0, 0, true)
	case u.ticking:
		u.ring.enter(1, -1, true)
	case u.lively:
		u.lively, u.ticking = false, true
		s := u.ring.next()
		s.opcode, s.fd, s.userData = opTimeout, -1, uTick
		s.addr, s.len = uint64(uintptr(unsafe.Pointer(&u.ring.tick))), 1
		u.ring.enter(1, -1, true)
	default:
		u.ring.enter(1, limit, false)
	}
}

// hasMore reports whether a connection must act after a send that makes no completion: it
// has more to send, or its Handler expects Flushed.
func (u *uring) hasMore() bool {
	for _, c := range u.launched {
		if c.asked || c.ring.next >= 0 || len(c.out) > 0 {
			return true
		}
	}
	return false
}

// complete handles one completion.
func (u *uring) complete(e cqe) {
	op := e.userData & 0xff
	if op == uTick {
		u.ticking = false
		return
	}
	u.lively = true
	if op == uPolled {
		u.onPolled(int32(e.userData>>8), e)
		return
	}
	c := u.conns[int32(e.userData>>8)]
	if e.flags&cqeMore == 0 {
		c.ring.pending--
	}
	switch op {
	case uReceive:
		u.onReceive(c, e)
	case uSend:
		u.onSend(c, int(e.res))
	case uPoll:
		c.ring.polling, c.ring.stopping = false, false
		switch {
		case e.res > 0 && c.state == watching && !c.ring.awaits:
			c.tellEnd(ErrGone)
		case e.res > 0 && c.state == awaiting && !c.closed:
			c.awaited()
		}
		u.update(c)
	}
	u.settle(c)
}

func (u *uring) onReceive(c *Conn, e cqe) {
	st := c.ring
	if st.into >= 0 {
		st.receiving, st.stopping = false, false
		u.onSlot(c, int(e.res))
		u.received(c, e.res)
		return
	}
	more := e.flags&cqeMore != 0
	if !more {
		st.receiving, st.stopping = false, false
	}
	if e.flags&cqeBuffer != 0 {
		u.bufs.free--
		id := uint16(e.flags >> 16)
		if e.res > 0 {
			u.deliver(c, u.bufs.get(id, int(e.res)))
		}
		u.bufs.give(id)
	}
	if !more {
		u.received(c, e.res)
	}
}

// onSlot delivers the bytes of a receive into a slot.
func (u *uring) onSlot(c *Conn, n int) {
	slot := c.ring.into
	c.ring.into = -1
	if n > 0 {
		if n >= bufferSize {
			c.ring.bulk = bulkCredit
		} else {
			c.ring.bulk--
		}
		u.loan = slot
		u.deliver(c, u.slots.mem(slot)[:n])
		if u.loan != slot {
			return // the slot is being sent
		}
		u.loan = -1
	}
	u.slots.put(slot)
}

// received handles a receive that has ended with res.
func (u *uring) received(c *Conn, res int32) {
	st := c.ring
	switch errno := unix.Errno(-res); {
	case res > 0 || errno == unix.ECANCELED || errno == unix.EINTR || errno == unix.EAGAIN:
		u.update(c)
	case errno == unix.ENOBUFS && res < 0:
		u.starved = append(u.starved, c)
	default:
		st.finished = true
		if res < 0 {
			st.end = errno
		}
		u.finish(c)
	}
}

// deliver hands bytes to the Handler, or keeps them for Resume.
func (u *uring) deliver(c *Conn, b []byte) {
	switch {
	case c.closed || c.ended:
	case c.state == armed && len(c.ring.stash) == 0:
		c.received(b)
	default:
		c.ring.stash = append(c.ring.stash, b...)
		if c.ring.receiving && c.state == watching {
			u.update(c) // the peer sends bytes: watch for its end with a poll
		}
	}
}

// finish reports the end of a connection, unless it is paused or has bytes to deliver first.
func (u *uring) finish(c *Conn) {
	switch {
	case c.closed || c.ended:
	case c.state == armed && len(c.ring.stash) == 0:
		c.tellEnd(errno(c.ring.end))
	case c.state == watching:
		c.tellEnd(ErrGone)
	}
}

// catchUp delivers the stash, and then the end if there was one.
func (u *uring) catchUp(c *Conn) {
	st := c.ring
	for len(st.stash) > 0 {
		b := st.stash[:min(len(st.stash), receiveSize)] // a Handler gets no more at once
		st.stash = st.stash[len(b):]
		c.received(b)
		if c.closed || c.ended || c.state != armed {
			return
		}
	}
	st.stash = nil
	if st.finished {
		c.tellEnd(errno(st.end))
		return
	}
	u.update(c)
}

// feed serves connections that had to wait for buffers or slots, in the order in
// which they began to wait.
func (u *uring) feed() {
	if len(u.hungry) > 0 && u.slots.any() {
		cs := u.hungry
		u.hungry = nil
		for _, c := range cs {
			c.ring.waiting = false
			if !c.closed && c.ring.slot < 0 && len(c.out) > 0 {
				u.more(c)
			}
		}
	}
	if len(u.starved) > 0 && u.bufs.free > 0 {
		cs := u.starved
		u.starved = nil
		for _, c := range cs {
			u.update(c)
		}
	}
}

// pollee is a descriptor that is polled. See Loop.Poll.
type pollee struct {
	fd int
	f  func() bool // nil after f has returned false
}

func (u *uring) poll(fd int, f func() bool) error {
	u.polled = append(u.polled, pollee{fd, f})
	u.watchPolled(int32(len(u.polled) - 1))
	return nil
}

func (u *uring) watchPolled(index int32) {
	s := u.ring.next()
	s.opcode, s.fd, s.opFlags, s.len = opPollAdd, int32(u.polled[index].fd), unix.POLLIN|unix.POLLRDHUP, pollMultishot
	s.userData = userData(index, uPolled)
}

func (u *uring) onPolled(index int32, e cqe) {
	f := u.polled[index].f
	if f == nil || u.shutting {
		return
	}
	if !f() {
		u.polled[index].f = nil
		s := u.ring.next()
		s.opcode, s.fd, s.addr, s.userData = opAsyncCancel, -1, userData(index, uPolled), userData(index, uPolled)
		return
	}
	if e.flags&cqeMore == 0 && e.res != -int32(unix.EBADF) {
		u.watchPolled(index)
	}
}

func (u *uring) wake() { wakeEvent(u.event) }

// trim may be called between turns only. The kernel fills buffers only during this thread's
// enter, so all of them are empty if there is no completion.
func (u *uring) trim() {
	if u.ring.ready() == 0 {
		u.bufs.trim()
	}
	u.slots.trim()
}

// shut closes everything. Closing the ring cancels the kernel's remaining
// operations.
func (u *uring) shut() {
	u.shutting = true
	for _, c := range u.conns {
		if c != nil && !c.closed {
			c.Close()
		}
	}
	if err := u.ring.enable(); err == nil && u.ring.tail != *u.ring.sqHead {
		u.ring.enter(0, 0, true)
		for n := u.ring.ready(); n > 0; n-- {
			u.complete(u.ring.take())
		}
	}
	for _, c := range u.conns {
		if c != nil && c.fd >= 0 {
			unix.Close(c.fd)
			c.fd = -1
		}
	}
	u.release()
}

func (u *uring) release() {
	u.ring.close()
	if u.bufs != nil {
		u.bufs.close()
	}
	if u.slots != nil {
		u.slots.close()
	}
	if u.event >= 0 {
		unix.Close(u.event)
	}
}
