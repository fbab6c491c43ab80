package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// send copies b into a slot and submits it, or queues it behind a send in progress. It
// doesn't copy bytes that are in the slot on loan.
func (u *uring) send(c *Conn, b []byte) {
	st := c.ring
	idle := len(c.out) == 0 && st.next < 0
	switch {
	case idle && u.loan >= 0 && &b[0] == &u.slots.mem(u.loan)[0]:
		st.next, st.nextLen, u.loan = u.loan, int32(len(b)), -1
		if st.slot < 0 {
			u.sendNext(c)
		}
		return
	case idle && st.slot < 0:
		b = b[u.launch(c, b):]
	}
	u.queue(c, b)
}

// queue keeps bytes for later: in the next slot as far as they fit, the rest in c.out.
func (u *uring) queue(c *Conn, b []byte) {
	st := c.ring
	if len(c.out) == 0 && len(b) > 0 {
		if st.next < 0 {
			st.next, _ = u.slots.get(len(b))
		}
		if st.next >= 0 {
			n := copy(u.slots.mem(st.next)[st.nextLen:], b)
			st.nextLen += int32(n)
			b = b[n:]
		}
	}
	if len(b) > 0 {
		c.queue(b)
	}
}

// launch submits as much of b as fits into a slot, and returns how much that is.
func (u *uring) launch(c *Conn, b []byte) int {
	slot, mem := u.slots.get(len(b))
	if slot < 0 {
		if !c.ring.waiting {
			c.ring.waiting = true
			u.hungry = append(u.hungry, c)
		}
		return 0
	}
	n := copy(mem, b)
	c.ring.slot, c.ring.flying, c.ring.sent = slot, int32(n), 0
	u.submitSend(c)
	return n
}

// sendNext submits the next slot.
func (u *uring) sendNext(c *Conn) {
	st := c.ring
	st.slot, st.flying, st.sent = st.next, st.nextLen, 0
	st.next, st.nextLen = -1, 0
	u.submitSend(c)
}

// submitSend submits the current slot as a send of what the kernel accepts at once.
func (u *uring) submitSend(c *Conn) {
	s := u.submitRest(c)
	s.flags = sqeSkipSuccess
	s.opFlags |= unix.MSG_DONTWAIT
	c.ring.now = true
	u.launched = append(u.launched, c)
}

// submitRest submits the rest of the current slot, as a send that waits for room.
func (u *uring) submitRest(c *Conn) *sqe {
	mem := u.slots.mem(c.ring.slot)[c.ring.sent:c.ring.flying]
	s := u.submit(c, opSend, uSend)
	s.addr, s.len = uint64(uintptr(unsafe.Pointer(&mem[0]))), uint32(len(mem))
	s.opFlags = unix.MSG_NOSIGNAL | unix.MSG_WAITALL
	return s
}

// sent finishes the sends that the last system call has carried out: those without a
// completion, which would report a failure. If the kernel has completions outside of the
// queue, these may report one; then all sends wait until the queue has them.
func (u *uring) sent() {
	if len(u.launched) == 0 || !u.ring.submitted() {
		return
	}
	overflowed := u.ring.overflowed()
	for i := range u.ring.ready() {
		if e := u.ring.peek(i); e.userData&0xff == uSend {
			u.conns[int32(e.userData>>8)].ring.now = false
		}
	}
	if overflowed {
		return
	}
	cs := u.launched
	u.launched = u.spare[:0]
	for i, c := range cs {
		cs[i] = nil
		if c.ring.now {
			c.ring.now = false
			c.ring.pending--
			u.giveSlot(c)
			u.gone(c)
			u.settle(c)
		}
	}
	u.spare = cs
}

func (u *uring) giveSlot(c *Conn) {
	if c.ring.slot >= 0 {
		u.slots.put(c.ring.slot)
		c.ring.slot, c.ring.flying, c.ring.sent = -1, 0, 0
	}
}

// onSend handles a send that the kernel didn't carry out at once.
func (u *uring) onSend(c *Conn, res int) {
	st := c.ring
	st.sent += int32(max(res, 0))
	if (res > 0 || unix.Errno(-res) == unix.EAGAIN) && st.sent < st.flying && !c.closed {
		u.submitRest(c)
		return
	}
	u.giveSlot(c)
	if res <= 0 && unix.Errno(-res) != unix.ECANCELED && !c.closed && c.broken == nil {
		c.fail(unix.Errno(-res))
		return
	}
	u.gone(c)
}

// gone continues after the whole slot was sent.
func (u *uring) gone(c *Conn) {
	if c.closed || c.broken != nil {
		return
	}
	u.more(c)
	if len(c.out) == 0 && c.ring.next < 0 && c.asked {
		c.asked = false
		c.handler.Flushed()
	}
}

// more sends the queued bytes.
func (u *uring) more(c *Conn) {
	switch {
	case c.ring.next >= 0:
		u.sendNext(c)
	case len(c.out) > 0:
		n := u.launch(c, c.out)
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	switch {
	case len(c.out) == 0:
		c.unqueue()
	case c.ring.slot >= 0:
		rest := c.out
		c.out = nil
		u.queue(c, rest)
		c.loop.memory.Put(rest)
	}
}
