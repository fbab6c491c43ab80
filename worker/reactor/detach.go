package reactor

import "golang.org/x/sys/unix"

// Detach takes the descriptor out of the loop: done gets it, and owns it, once
// the kernel does nothing with it for us any more. What the peer says meanwhile
// isn't lost: it waits in the kernel. If it was read already, or something waits
// to be sent, or the end was seen, done gets -1 and the connection stays, paused.
// done may be called before Detach returns; after Close or Abort it isn't called.
// Until it is called nothing else may be asked of the connection.
func (c *Conn) Detach(done func(fd int)) {
	if c.closed || c.ended || c.broken != nil || c.Queued() > 0 {
		done(-1)
		return
	}
	c.state, c.detach = paused, done
	c.loop.drv.detach(c)
}

// detached ends a Detach. With keep the connection stays what it was.
func (c *Conn) detached(keep bool) {
	done, fd := c.detach, -1
	c.detach = nil
	if !keep {
		fd, c.fd, c.closed = c.fd, -1, true
	}
	done(fd)
}

// detach leaves everything where it is: what wasn't read is in the kernel.
func (p *epoll) detach(c *Conn) {
	p.leave(c)
	p.conns[c.fd] = nil
	c.detached(false)
}

// detach cancels what the kernel holds, a receive of one slot included, and goes
// on when the last completion has come.
func (u *uring) detach(c *Conn) {
	if c.ring.receiving || c.ring.polling {
		u.stop(c)
	}
	u.settle(c)
}

// part gives up a connection that the kernel holds nothing of, unless something
// came in before the receive was cancelled.
func (u *uring) part(c *Conn) {
	if len(c.ring.stash) > 0 || c.ring.finished || c.ended || c.broken != nil {
		c.detached(true)
		return
	}
	u.forget(c)
	c.detached(false)
}

// forget takes a connection out of the table.
func (u *uring) forget(c *Conn) {
	u.conns[c.ring.index] = nil
	u.free = append(u.free, c.ring.index)
}

// Abort cuts a connection that is under no loop, and closes its descriptor: its
// peer sees a reset, whoever else has the descriptor still.
func Abort(fd int) {
	disconnect(fd)
	unix.Close(fd)
}
