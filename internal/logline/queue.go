package logline

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
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
	lines  []queued
	size   int // bytes in lines
	lost   int
	notice func(lost int) (io.Writer, []byte) // makes the line that reports lost lines; nil before New
	ending func()                             // called at the begin of Close; nil before New
	closed bool
	busy   bool // the goroutine is writing lines that it has taken
}

// queued is a line and where it goes. Without a line the writer is closed, because nothing
// follows for it.
type queued struct {
	to   io.Writer
	line []byte
}

// write writes the line, or closes the writer. It returns false for a lost line.
func (e queued) write() bool {
	if c, ok := e.to.(io.Closer); ok && e.line == nil {
		_ = c.Close() // what it has written counts already
		return true
	}
	_, err := e.to.Write(e.line)
	return err == nil
}

// NewQueue starts the goroutine that writes to w; Close ends it. A file is written
// without os.File.Write, which ends the process with SIGPIPE when standard error is a
// pipe that has lost its reader.
func NewQueue(w io.Writer) *Queue {
	if f, ok := w.(*os.File); ok {
		if raw, err := f.SyscallConn(); err == nil {
			w = newFile(raw)
		}
	}
	q := &Queue{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a copy of one line for the writer of NewQueue, or counts it as lost. It
// never blocks or fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.put(q.w, bytes.Clone(line))
	return len(line), nil
}

// put queues a line for a writer. The line is the Queue's now.
func (q *Queue) put(to io.Writer, line []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return
	case q.size+len(line) > queueSize:
		q.lost++
	default:
		q.lines = append(q.lines, queued{to, line})
		q.size += len(line)
	}
	q.wakeUp()
}

// close closes a writer once the lines for it are written.
func (q *Queue) close(w io.WriteCloser) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return // the process ends
	}
	q.lines = append(q.lines, queued{to: w})
	q.wakeUp()
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
	ending := q.ending
	q.mu.Unlock()
	if ending != nil {
		ending()
	}
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
		for _, e := range lines {
			if !e.write() {
				failed++
			}
		}
		if notice.line != nil && !notice.write() {
			failed += lost
		}
		q.wrote(failed)
		if last {
			return
		}
	}
}

// take removes and returns the queued lines, and the report of lost lines, which belongs
// after them: a line that didn't fit is newer than those that wait.
func (q *Queue) take() (lines []queued, lost int, notice queued, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, q.lines, q.size = q.lines, nil, 0
	q.busy = true
	if q.lost > 0 && q.notice != nil {
		lost, q.lost = q.lost, 0
		notice.to, notice.line = q.notice(lost)
	}
	return lines, lost, notice, q.closed
}

// wrote records that what take has returned is written, but for some lines.
func (q *Queue) wrote(lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += lost
	q.busy = false
}

// flush waits for at most limit until every line that was queued is written.
func (q *Queue) flush(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		q.mu.Lock()
		done := len(q.lines) == 0 && !q.busy
		q.mu.Unlock()
		if done {
			return
		}
	}
}

// report sets how the line about lost lines is made, and what is to be done before the
// last line.
func (q *Queue) report(notice func(lost int) (io.Writer, []byte), ending func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notice, q.ending = notice, ending
}
