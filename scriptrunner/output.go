package scriptrunner

import (
	"bufio"
	"errors"
	"os"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// maxLine is the longest line that is passed on whole, in bytes.
	maxLine = 4 << 10
	// maxOutput and maxLines limit how much output of one run is passed on, in bytes
	// and lines: the queue to the supervisor must have room for it all.
	maxOutput = 1 << 20
	maxLines  = 16 << 10
)

// line is one line of output, or the end of the output.
type line struct {
	from *output
	text string
	cut  bool
	eof  bool
}

// output is the pipe that a script writes to. Its goroutine always reads to the end,
// even what it doesn't pass on. So nobody ever blocks in writing: neither the script
// nor the processes that it leaves behind.
type output struct{ pipe *os.File }

func (o *output) close() { o.pipe.Close() }

// readOutput sends lines to the loop until the last writer is gone.
func (r *runner) readOutput(o *output) {
	defer o.pipe.Close()
	var b budget
	in := bufio.NewReaderSize(o.pipe, maxLine)
	for {
		text, long, err := readLine(in)
		if text != "" || err == nil {
			if l, ok := b.spend(text, long); ok {
				l.from = o
				r.emit(l)
			}
		}
		if err != nil {
			r.emit(line{from: o, eof: true})
			return
		}
	}
}

func (r *runner) emit(l line) {
	select {
	case r.lines <- l:
	case <-r.done:
	}
}

// readLine returns a line without its line end. It skips the rest of a line that is
// longer than the buffer.
func readLine(in *bufio.Reader) (text string, long bool, err error) {
	b, err := in.ReadSlice('\n')
	text = strings.TrimRight(string(b), "\r\n")
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		_, err = in.ReadSlice('\n')
	}
	return strings.ToValidUTF8(text, "\uFFFD"), long, err
}

// budget is how much of a run's output may still be passed on.
type budget struct {
	bytes, lines int
	over         bool
}

// spend returns what to pass on for a line, if anything. The first line above the
// budget becomes an empty line that is marked as cut; later lines are dropped.
func (b *budget) spend(text string, cut bool) (line, bool) {
	if b.over {
		return line{}, false
	}
	b.bytes += len(text) + 1
	b.lines++
	if b.bytes > maxOutput || b.lines > maxLines {
		b.over = true
		return line{cut: true}, true
	}
	return line{text: text, cut: cut}, true
}

// onLine passes a line on to the supervisor. Without a supervisor it goes to the log.
func (r *runner) onLine(l line) {
	current := r.run != nil && r.run.output == l.from
	if l.eof {
		r.forget(l.from)
		if current {
			r.run.eof = true
			r.settle()
		}
		return
	}
	if !current {
		return
	}
	if r.link == nil || !r.link.ready {
		logline.Unlimited(r.log).Info("output of the script", "run_id", r.run.id, "line", l.text, "cut", l.cut)
		return
	}
	r.send(&ipc.RunOutput{RunID: r.run.id, Line: l.text, Cut: l.cut})
}

// keepOld goes on reading the pipe of a run that has ended: closing it would break
// processes that the script left running on purpose. If there are too many such pipes,
// the oldest is closed.
func (r *runner) keepOld(o *output) {
	r.old = append(r.old, o)
	if len(r.old) > keepResults {
		r.old[0].close()
		r.old = r.old[1:]
	}
}

func (r *runner) forget(o *output) {
	for i, old := range r.old {
		if old == o {
			r.old = append(r.old[:i:i], r.old[i+1:]...)
			return
		}
	}
}
