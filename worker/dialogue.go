package worker

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// socket is a client's connection during its set-up.
type socket interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	CloseWrite() error
}

// dialogue is a client's connection while it is set up on the event loop. The set-up is
// a coroutine: it reads like a function that waits for the client, but a wait only parks
// the coroutine and the loop continues. A goroutine for each client would also work, but
// at a few hundred logins a second the scheduler would wake another thread for every
// packet, which costs several times as much as the login itself.
//
// Nothing in a coroutine may block. What may block runs in a goroutine: see await and leave.
type dialogue struct {
	loop   *reactor.Loop
	conn   *reactor.Conn
	co     *coroutine
	parked bool
	// spoken says that something was sent to the client since the last read. Its answer
	// has hardly arrived yet, so a read now would most likely find nothing.
	spoken  bool
	timer   *reactor.Timer
	expired bool
	err     error // why the connection has ended
	// remote is set while a goroutine uses the connection, after the coroutine has ended.
	remote *remote
}

// coroutines starts dialogues. It keeps a coroutine whose dialogue has ended for the next
// one, because a new coroutine has a small stack, and growing a stack means copying it.
type coroutines struct{ idle []*coroutine }

// coroutine runs one dialogue after the other.
type coroutine struct {
	// resume runs the coroutine until it parks or ends, yield parks it, and stop ends an
	// idle coroutine.
	resume func() (struct{}, bool)
	yield  func(struct{}) bool
	stop   func()
	task   func()
}

// maxIdleCoroutines is how many idle coroutines are kept. Each needs about 8 KiB.
const maxIdleCoroutines = 64

// begin takes over a client's descriptor and adds it to the loop. The first call of wake
// starts f.
func (cs *coroutines) begin(loop *reactor.Loop, fd int, f func(*dialogue)) (d *dialogue, err error) {
	d = &dialogue{loop: loop}
	if d.conn, err = loop.Add(fd, d); err != nil {
		return nil, err
	}
	d.co = cs.take()
	d.co.task = func() { f(d) }
	d.parked = true
	return d, nil
}

func (cs *coroutines) take() *coroutine {
	if n := len(cs.idle); n > 0 {
		co := cs.idle[n-1]
		cs.idle = cs.idle[:n-1]
		return co
	}
	co := &coroutine{}
	co.resume, co.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if p := recover(); p != nil {
				panic(fmt.Sprintf("%v\n%s", p, debug.Stack())) // the loop's stack wouldn't show the coroutine
			}
		}()
		co.yield = yield
		for {
			co.task()
			co.task = nil
			if len(cs.idle) >= maxIdleCoroutines {
				return
			}
			cs.idle = append(cs.idle, co)
			if !yield(struct{}{}) {
				return
			}
		}
	})
	return co
}

// end ends the idle coroutines. Call it on the loop, to which they belong.
func (cs *coroutines) end() {
	for _, co := range cs.idle {
		co.stop()
	}
	cs.idle = nil
}

// park waits for the next wake: the client has sent something or left, the queue to it is
// empty, or its time is up.
func (d *dialogue) park() {
	d.parked = true
	d.co.yield(struct{}{})
}

func (d *dialogue) wake() {
	if d.remote != nil {
		d.remote.look()
		return
	}
	if d.parked {
		d.parked = false
		d.co.resume()
	}
}

// Received, Ended and Flushed implement reactor.Handler.
func (d *dialogue) Received([]byte) { d.wake() }

func (d *dialogue) Ended(err error) {
	d.err = cmp.Or(d.err, err, io.EOF)
	d.wake()
}

func (d *dialogue) Flushed() { d.wake() }

func (d *dialogue) over() error {
	if d.err == nil && d.expired {
		return os.ErrDeadlineExceeded
	}
	return d.err
}

func (d *dialogue) Read(b []byte) (int, error) {
	for {
		if err := d.over(); err != nil {
			return 0, err
		}
		if !d.spoken {
			if n, err := d.conn.Read(b); n > 0 || err != nil || len(b) == 0 {
				return n, err
			}
		}
		d.spoken = false
		d.conn.Await()
		d.park()
	}
}

// Write queues b without limit, because little is sent to a client before its login is
// complete.
func (d *dialogue) Write(b []byte) (int, error) {
	if err := d.over(); err != nil {
		return 0, err
	}
	d.conn.Send(b)
	d.spoken = true
	return len(b), nil
}

// flush waits until the kernel has everything that was written.
func (d *dialogue) flush() error {
	for d.over() == nil && d.conn.Queued() > 0 {
		d.park()
	}
	return d.over()
}

// CloseWrite tells the client that nothing more will come.
func (d *dialogue) CloseWrite() error {
	err := d.flush()
	d.conn.CloseWrite()
	return err
}

// SetDeadline makes waits, and all later calls, fail at t.
func (d *dialogue) SetDeadline(t time.Time) error {
	d.timer.Stop()
	d.expired = false
	d.timer = d.loop.After(time.Until(t), func() {
		d.expired = true
		d.wake()
	})
	return d.err
}

// Close closes the connection. It may be called from outside the coroutine, whose calls then
// fail.
func (d *dialogue) Close() error {
	d.err = net.ErrClosed
	d.timer.Stop()
	d.conn.Close()
	d.loop.Post(d.wake)
	return nil
}

// await calls f and waits until done is called on the loop. What f starts must call done
// within a time limit.
func (d *dialogue) await(f func(done func())) {
	finished := false
	f(func() {
		finished = true
		d.wake()
	})
	for !finished {
		d.park()
	}
}

// awaitUnlessGone is await, but it returns when the client has gone, too. The deadline
// doesn't end the wait.
func (d *dialogue) awaitUnlessGone(f func(done func())) {
	finished := false
	f(func() {
		finished = true
		d.wake()
	})
	d.conn.Watch()
	for !finished && d.err == nil {
		d.park()
	}
}

// release separates the dialogue from its connection, which then belongs to the caller.
// It fails if the connection has ended, because the loop reports an end only once.
func (d *dialogue) release() (*reactor.Conn, error) {
	d.timer.Stop()
	return d.conn, d.over()
}

// away is a client's connection while a goroutine uses it.
type away interface {
	socket
	// connected reports, on the loop, whether the client is still there.
	connected() bool
	// giveBack gives the connection to the loop, which then calls done. A connection
	// that is lost is an error.
	giveBack(loop *reactor.Loop, done func(*reactor.Conn, error))
}

// leave hands the connection to a goroutine. An encrypted connection stays in the loop,
// which owns the encryption.
func (d *dialogue) leave() (away, error) {
	if err := d.flush(); err != nil {
		return nil, err
	}
	if d.conn.Secured() != nil {
		d.timer.Stop()
		d.conn.Watch()
		d.remote = &remote{d: d}
		return d.remote, nil
	}
	return d.depart()
}

// depart removes the connection from the loop.
func (d *dialogue) depart() (*clientFile, error) {
	fd, parted := -1, false
	d.conn.Detach(func(n int) {
		fd, parted = n, true
		d.wake()
	})
	for !parted && d.err == nil { // a connection that was closed meanwhile is never detached
		d.park()
	}
	d.timer.Stop()
	if fd < 0 {
		return nil, cmp.Or(d.err, io.EOF)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &clientFile{os.NewFile(uintptr(fd), "client")}, nil
}

// clientFile is a client's unencrypted connection while a goroutine uses it. Go's poller
// watches an os.File like a net.Conn, but to make a net.Conn from a descriptor would take
// twelve system calls.
type clientFile struct{ *os.File }

// CloseWrite tells the client that nothing more will come.
func (f *clientFile) CloseWrite() error {
	return f.control(func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) })
}

// connected reports whether the client is still there. It looks for the end of the
// connection without reading from it.
func (f *clientFile) connected() bool {
	alive := false
	err := f.control(func(fd int) {
		var b [1]byte
		n, _, rerr := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = n > 0 || rerr == unix.EAGAIN
	})
	return err == nil && alive
}

// giveBack implements away.
func (f *clientFile) giveBack(loop *reactor.Loop, done func(*reactor.Conn, error)) {
	fd, err := detach(f)
	f.Close()
	loop.Post(func() {
		var conn *reactor.Conn
		if err == nil {
			conn, err = loop.Add(fd, nil)
		}
		done(conn, err)
	})
}

func (f *clientFile) control(do func(fd int)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { do(int(fd)) })
}
