package scriptrunner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	// badSuffix is added to the name of the file for a copy of one that can't be read.
	badSuffix = ".bad"
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
	// torn: the last line of the file may have no end. The next one begins a line of its own.
	torn bool
	// damaged counts the lines of the file that can't be read.
	damaged int
}

// openRecord reads the file in dir. With an error it still returns a memory,
// which lacks the file. A line that can't be read costs no other one; a file with
// such lines is copied aside before it is shortened.
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
	lines, err := r.read()
	if err != nil {
		f.Close()
		return &record{}, err
	}
	if lines > maxWritten || r.damaged > 0 {
		err = r.rewrite(path)
	}
	return r, err
}

// read adds what the file says to what is remembered.
func (r *record) read() (lines int, err error) {
	if r.file == nil {
		return 0, nil
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read record of runs: %w", err)
	}
	b, err := io.ReadAll(r.file)
	if err != nil {
		return 0, fmt.Errorf("read record of runs: %w", err)
	}
	r.damaged, r.torn = 0, false
	for l := range bytes.Lines(b) {
		line, ended := bytes.CutSuffix(l, []byte("\n"))
		lines++
		r.torn = !ended
		switch e, ok := parseEntry(line); {
		case ok && ended:
			r.remember(e)
		case len(line) > 0:
			r.damaged++
		}
	}
	return lines, nil
}

// parseEntry reads one line. One of an earlier release is an id alone.
func parseEntry(line []byte) (e entry, ok bool) {
	if err := json.Unmarshal(line, &e); err == nil {
		return e, e.ID != ""
	}
	strange := func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("{}\"", c) }
	if len(line) == 0 || bytes.ContainsFunc(line, strange) {
		return entry{}, false
	}
	return entry{ID: string(line)}, true
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
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	line = append(line, '\n')
	if r.torn {
		line = append([]byte("\n"), line...)
	}
	_, err = r.file.Write(line)
	if r.torn = err != nil; r.torn {
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

// rewrite shortens the file to what is remembered. The content before is beside it
// until that is durable, and stays there if some of it couldn't be read. The file
// stays the same one, since a runner before this one may still write its end to it.
func (r *record) rewrite(path string) error {
	if err := r.copyTo(path + badSuffix); err != nil {
		return fmt.Errorf("keep record of runs: %w", err)
	}
	if err := r.file.Truncate(0); err != nil {
		return fmt.Errorf("shorten record of runs: %w", err)
	}
	r.torn = false
	for _, e := range r.runs {
		if err := r.put(e); err != nil {
			return fmt.Errorf("shorten record of runs: %w", err)
		}
	}
	if err := r.sync(); err != nil || r.damaged > 0 {
		return err
	}
	return os.Remove(path + badSuffix)
}

// copyTo makes a durable copy of the file in the place of any other at path.
func (r *record) copyTo(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = r.file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(f, r.file)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (r *record) close() {
	if r != nil && r.file != nil {
		r.file.Close()
	}
}
