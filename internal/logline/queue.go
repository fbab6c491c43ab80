package logline

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// queueSize is how many bytes of lines may wait: a few thousand lines.
	queueSize = 512 << 10
	// FlushLimit is how long an ending process waits for its lines to be written. It is
	// part of the second within which a worker ends after its supervisor.
	FlushLimit = 300 * time.Millisecond
)

// Queue is a bounded queue of lines in front of a writer that may block or fail: a pipe
// that nobody reads, a journal that hangs, a full disk. Write never blocks; a goroutine
// writes the lines, each in one Write. The Queue counts as lost the lines that don't fit
// and those whose Write fails. It reports their number in a line of its own once the
// writer works again.
type Queue struct {
	w    io.Writer
	wake chan struct{}
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	lines  [][]byte
	size   int // bytes in lines
	lost   int
	notice func(lost int) []byte // makes the line that reports lost lines; nil before New
	closed bool
}

// NewQueue starts the goroutine that writes to w; Close ends it. A file is written
// without os.File.Write, which ends the process with SIGPIPE when standard error is a
// pipe that has lost its reader.
func NewQueue(w io.Writer) *Queue {
	if f, ok := w.(*os.File); ok {
		if raw, err := f.SyscallConn(); err == nil {
			w = file{raw}
		}
	}
	q := &Queue{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a copy of one line, or counts it as lost. It never blocks or fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return len(line), nil
	case q.size+len(line) > queueSize:
		q.lost++
	default:
		q.lines = append(q.lines, bytes.Clone(line))
		q.size += len(line)
	}
	q.wakeUp()
	return len(line), nil
}

func (q *Queue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Close waits for at most limit until the queued lines are written, and reports whether
// all were. It drops lines that come later.
func (q *Queue) Close(limit time.Duration) bool {
	q.mu.Lock()
	q.closed = true
	q.wakeUp()
	q.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-q.done:
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.lost == 0
	case <-late.C:
		return false
	}
}

// run writes lines until Close, and then those that are still queued.
func (q *Queue) run() {
	defer close(q.done)
	for range q.wake {
		lines, lost, notice, last := q.take()
		failed := 0
		for _, line := range lines {
			if _, err := q.w.Write(line); err != nil {
				failed++
			}
		}
		if notice != nil {
			if _, err := q.w.Write(notice); err != nil {
				failed += lost
			}
		}
		q.lose(failed)
		if last {
			return
		}
	}
}

// take removes and returns the queued lines, and the report of lost lines, which belongs
// after them: a line that didn't fit is newer than those that wait.
func (q *Queue) take() (lines [][]byte, lost int, notice []byte, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, q.lines, q.size = q.lines, nil, 0
	if q.lost > 0 && q.notice != nil {
		lost, notice = q.lost, q.notice(q.lost)
		q.lost = 0
	}
	return lines, lost, notice, q.closed
}

func (q *Queue) lose(lines int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += lines
}

// report sets how the line about lost lines is made.
func (q *Queue) report(notice func(lost int) []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notice = notice
}

// file writes to a descriptor that blocks. It waits for space by itself when another
// process that shares the descriptor has made it non-blocking.
type file struct{ raw syscall.RawConn }

func (f file) Write(line []byte) (n int, err error) {
	werr := f.raw.Write(func(fd uintptr) bool {
		for n < len(line) && err == nil {
			var m int
			m, err = unix.Write(int(fd), line[n:])
			n += max(m, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				err = nil
			case errors.Is(err, unix.EAGAIN):
				_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
				if errors.Is(err, unix.EINTR) {
					err = nil
				}
			}
		}
		return true
	})
	return n, cmp.Or(err, werr)
}
