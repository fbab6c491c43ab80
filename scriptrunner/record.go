package scriptrunner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// maxRuns is how many runs are remembered.
	maxRuns = 1024
	// maxWritten is how many lines the file may have before it is shortened: a
	// run has three.
	maxWritten = 4 * maxRuns
	// recordName is the file of the runs, oldest first. Each line is all that was
	// known of one run when it was written; the last one of a run counts. A line
	// that is an id alone is of an earlier release.
	recordName = "scriptrunner.runs"
)

// entry is what is written down of a run, for this runner and those after it.
type entry struct {
	ID   string `json:"id"`
	Hook string `json:"hook,omitempty"`
	// Boot is that of the start, empty for an id alone.
	Boot string `json:"boot,omitempty"`
	// PID and Start name the script's own process among all of this boot, as
	// proc.Leader does. Zero: it was about to be started.
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"`
	// Deadline is the time-out, in milliseconds since boot. KillDelay are the
	// milliseconds between SIGTERM and SIGKILL.
	Deadline  int64 `json:"deadline,omitempty"`
	KillDelay int64 `json:"kill_delay,omitempty"`
	// End is nil as long as nobody has seen the end.
	End *ipc.RunEnded `json:"end,omitempty"`
}

func newEntry(m *ipc.Run, timeout, killDelay time.Duration) (entry, error) {
	boot, err := proc.BootID()
	return entry{
		ID: m.RunID, Hook: m.Hook, Boot: boot,
		Deadline: (proc.SinceBoot() + timeout).Milliseconds(), KillDelay: killDelay.Milliseconds(),
	}, err
}

func (e entry) leader() proc.Leader { return proc.Leader{PID: e.PID, Start: e.Start, Boot: e.Boot} }

// record are the runs that were started, the latest maxRuns of them. A nil
// *record can't be used; one without a file remembers until the process ends.
type record struct {
	runs []entry
	file *os.File // open as long as the process lives
}

// openRecord reads the file in dir. With an error it still returns a memory,
// which lacks the file.
func openRecord(dir string) (*record, error) {
	if dir == "" {
		return &record{}, errors.New("there is no directory for the record of runs")
	}
	path := filepath.Join(dir, recordName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return &record{}, fmt.Errorf("open record of runs: %w", err)
	}
	r := &record{file: f}
	lines, whole, err := r.read()
	if err != nil {
		f.Close()
		return &record{}, err
	}
	if lines > maxWritten || !whole {
		err = r.rewrite()
	}
	return r, err
}

// read adds what the file says to what is remembered. whole is false when its
// last line has no end: that one was never reported either.
func (r *record) read() (lines int, whole bool, err error) {
	if r.file == nil {
		return 0, true, nil
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return 0, false, fmt.Errorf("read record of runs: %w", err)
	}
	b, err := io.ReadAll(r.file)
	if err != nil {
		return 0, false, fmt.Errorf("read record of runs: %w", err)
	}
	for l := range bytes.Lines(b) {
		line, ok := bytes.CutSuffix(l, []byte("\n"))
		if !ok {
			return lines, false, nil
		}
		lines++
		r.remember(parseEntry(line))
	}
	return lines, true, nil
}

// parseEntry takes a line that isn't ours for an id: at worst one that nobody
// asks for.
func parseEntry(line []byte) entry {
	var e entry
	if json.Unmarshal(line, &e) != nil || e.ID == "" {
		return entry{ID: string(line)}
	}
	return e
}

// find returns the entry of a run, nil when there is none.
func (r *record) find(id string) *entry {
	// The latest is asked for most.
	for i := len(r.runs) - 1; i >= 0; i-- {
		if r.runs[i].ID == id {
			return &r.runs[i]
		}
	}
	return nil
}

func (r *record) remember(e entry) {
	if old := r.find(e.ID); old != nil {
		*old = e
		return
	}
	r.runs = append(r.runs, e)
	if len(r.runs) > maxRuns {
		r.runs = r.runs[1:]
	}
}

// unfinished returns the runs of which nobody has written down the end.
func (r *record) unfinished() []entry {
	var out []entry
	for _, e := range r.runs {
		if e.Boot != "" && e.End == nil {
			out = append(out, e)
		}
	}
	return out
}

// put remembers a run, in the file as well. An error means that only this
// process knows it.
func (r *record) put(e entry) error {
	r.remember(e)
	if r.file == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return nil
}

// sync makes what was put outlast the machine. Only that a run was begun has to:
// the death of this process loses nothing, and that of the machine ends all runs.
func (r *record) sync() error {
	if r.file == nil {
		return nil
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return nil
}

// rewrite shortens the file to what is remembered. Runs are lost when the
// machine dies in it; the supervisor has its own record of runs.
func (r *record) rewrite() error {
	if err := r.file.Truncate(0); err != nil {
		return fmt.Errorf("shorten record of runs: %w", err)
	}
	for _, e := range r.runs {
		if err := r.put(e); err != nil {
			return fmt.Errorf("shorten record of runs: %w", err)
		}
	}
	return r.sync()
}

func (r *record) close() {
	if r != nil && r.file != nil {
		r.file.Close()
	}
}
