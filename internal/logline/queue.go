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
	// queueSize is how many bytes of lines may wait: some thousand lines.
	queueSize = 512 << 10
	// FlushLimit is how long an ending process waits until its lines are written. A
	// worker ends within a second after its supervisor, including this time.
	FlushLimit = 300 * time.Millisecond
)

// Queue is a bounded queue of lines in front of a writer that may block: a pipe that
// nobody reads, a journal that hangs, a full disk. Write never blocks. A goroutine
// writes the lines, each in one Write. It counts lines that don't fit and lines whose
// Write fails, and reports them in a line of its own when the writer works again.
type Queue struct {
	w    io.Writer
	wake chan struct{}
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	lines  [][]byte
	size   int // bytes in lines
	lost   int
	notice func(lost int) []byte // makes the line that reports them
	closed bool
}

// NewQueue starts the goroutine that writes to w; Close ends it. A pipe without a
// reader must not end the process: NewQueue ignores SIGPIPE, which is for programs
// whose purpose is their output.
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

// Close waits until the queue is written, for at most limit, and reports whether it
// was. Later lines are dropped.
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

// run writes until Close, and once more then.
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

// take returns the queued lines, with the report of the lost ones, which are all newer
// than those lines.
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

// file writes to a descriptor that may block, or that another process that shares it
// has made non-blocking.
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
