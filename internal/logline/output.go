package logline

import (
	"cmp"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// packetPatience is how long one datagram may wait for a daemon that doesn't read.
	packetPatience = time.Second
	// leavePatience is how long a log that was left may keep the lines behind it waiting,
	// since there was space in it.
	leavePatience = time.Second
)

var errStuck = errors.New("nobody reads the log")

// output is how lines are written to a descriptor. The goroutine of the queue writes; only
// leaveFor is for others, too.
//
// It waits for space before it writes, so that a pipe that nobody reads can be left although
// it blocks. Nothing helps against a file on a disk that hangs, or when another process takes
// the space first.
type output struct {
	place  place
	stream bool        // a line waits for space as long as lines don't go elsewhere
	left   atomic.Bool // lines go elsewhere now
	spent  bool        // after it was left, a line has waited in vain
	cut    bool        // the last line was written in part
}

// place is what a descriptor leads to. It is zero if that is unknown.
type place struct {
	dev, ino uint64
	pipe     bool
}

func placeOf(fd int) place {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return place{}
	}
	return place{dev: st.Dev, ino: st.Ino, pipe: st.Mode&unix.S_IFMT == unix.S_IFIFO}
}

// longest returns how long a line may be that no line of another process gets into. A pipe
// promises no more than 4096 bytes.
func (p place) longest() int {
	if p.pipe {
		return maxPiped
	}
	return MaxLine
}

// leaver is an output that can be told that lines go to next now.
type leaver interface{ leaveFor(next place) }

// leaveFor has the output give up when it is stuck. It stays patient if next is the same
// place, because that is stuck as well.
func (o *output) leaveFor(next place) {
	if o.place != next || next == (place{}) {
		o.left.Store(true)
	}
}

// write writes a line. If the last one was written in part, as on a full disk, the line
// begins behind it.
func (o *output) write(fd int, line []byte) (int, error) {
	text := line
	if o.cut {
		text = append([]byte{'\n'}, line...)
	}
	n, err := o.writeAll(fd, text)
	if o.stream && n > 0 {
		o.cut = text[n-1] != '\n'
	}
	return max(0, n-(len(text)-len(line))), err
}

func (o *output) writeAll(fd int, line []byte) (n int, err error) {
	for n < len(line) {
		if err := o.waitForSpace(fd); err != nil {
			return n, err
		}
		m, err := unix.Write(fd, line[n:])
		n += max(m, 0)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
	return n, nil
}

// waitForSpace waits until something can be written. Each step ends soon enough to see that
// the output was left.
func (o *output) waitForSpace(fd int) error {
	for {
		left, limit := o.left.Load(), packetPatience
		switch {
		case o.spent:
			limit = 0
		case o.stream:
			limit = leavePatience
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(limit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || ready > 0:
			return err
		case left || !o.stream:
			o.spent = left
			return errStuck
		}
	}
}

// descriptor writes to a descriptor that it owns.
type descriptor struct {
	output
	fd int
}

func newDescriptor(fd int, stream bool) *descriptor {
	return &descriptor{output: output{place: placeOf(fd), stream: stream}, fd: fd}
}

func (d *descriptor) Write(line []byte) (int, error) { return d.write(d.fd, line) }

func (d *descriptor) Close() error { return unix.Close(d.fd) }

// file writes to a stream that somebody else opened, while it stays open.
type file struct {
	output
	raw syscall.RawConn
}

func newFile(raw syscall.RawConn) *file {
	f := &file{output: output{stream: true}, raw: raw}
	_ = raw.Control(func(fd uintptr) { f.place = placeOf(int(fd)) }) // otherwise it is unknown
	return f
}

func (f *file) Write(line []byte) (n int, err error) {
	werr := f.raw.Write(func(fd uintptr) bool {
		n, err = f.write(int(fd), line)
		return true
	})
	return n, cmp.Or(err, werr)
}
