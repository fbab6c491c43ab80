package reactor

import "golang.org/x/sys/unix"

// Detach removes the descriptor from the loop and passes it to done, which owns it, once
// the kernel has no operation on it any more. Bytes that the peer sends meanwhile wait in
// the kernel and aren't lost. If bytes were already read, or wait to be sent, or the end
// was seen, done gets -1, and the connection stays in the loop, paused. Detach may call
// done before it returns. Until done is called, only Close and Abort may be called; then
// done isn't called any more.
func (c *Conn) Detach(done func(fd int)) {
	if c.closed || c.ended || c.broken != nil || c.Queued() > 0 {
		done(-1)
		return
	}
	c.state, c.detach = paused, done
	c.loop.drv.detach(c)
}

// detached ends a Detach. With keep, the connection stays in the loop.
func (c *Conn) detached(keep bool) {
	done, fd := c.detach, -1
	c.detach = nil
	if !keep {
		fd, c.fd, c.closed = c.fd, -1, true
	}
	done(fd)
}

// detach is done at once, because bytes that weren't delivered are in the kernel.
func (p *epoll) detach(c *Conn) {
	p.leave(c)
	p.conns[c.fd] = nil
	c.detached(false)
}

// detach cancels the kernel's operations, including a receive into a slot, and continues
// after the last completion (settle).
func (u *uring) detach(c *Conn) {
	if c.ring.receiving || c.ring.polling {
		u.stop(c)
	}
	u.settle(c)
}

// part completes a Detach, when the kernel has no operation on the connection. The
// connection stays if bytes arrived before the receive was cancelled.
func (u *uring) part(c *Conn) {
	if len(c.ring.stash) > 0 || c.ring.finished || c.ended || c.broken != nil {
		c.detached(true)
		return
	}
	u.forget(c)
	c.detached(false)
}

// forget removes a connection from the table.
func (u *uring) forget(c *Conn) {
	u.conns[c.ring.index] = nil
	u.free = append(u.free, c.ring.index)
}

// Abort cuts a connection that is in no loop, and closes its descriptor. The peer sees a
// reset, even if another process has the socket, too.
func Abort(fd int) {
	disconnect(fd)
	unix.Close(fd)
}
