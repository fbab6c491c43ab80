package scriptrunner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// maxRuns is how many runs are remembered.
	maxRuns = 1024
	// maxWritten is how many lines the file may have before it is shortened. A run has
	// three lines.
	maxWritten = 4 * maxRuns
	// recordName is the file of the runs, oldest first. Each line is all that was known
	// about one run when the line was written; the last line of a run counts. A line
	// with only an id comes from an earlier release.
	recordName = "scriptrunner.runs"
	// badSuffix is added to the file's name for a copy of a file that has unreadable
	// lines.
	badSuffix = ".bad"
)

// entry is what is recorded about a run, for this runner and later ones.
type entry struct {
	ID   string `json:"id"`
	Hook string `json:"hook,omitempty"`
	// Boot is the boot id at the start, empty if only the run's id is known.
	Boot string `json:"boot,omitempty"`
	// PID and Start identify the script's own process within this boot, as proc.Leader
	// does. They are zero if the script was about to be started.
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"`
	// Check: it is a check, which the next runner ends at once, and forgets.
	Check bool `json:"check,omitempty"`
	// Deadline is when the run's time-out is, in milliseconds since boot. KillDelay is
	// the time between SIGTERM and SIGKILL, in milliseconds.
	Deadline  int64 `json:"deadline,omitempty"`
	KillDelay int64 `json:"kill_delay,omitempty"`
	// End is nil until a runner has seen the end.
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

// record holds the latest maxRuns runs that were started. A nil *record can't be used;
// a record without a file remembers until the process ends.
type record struct {
	runs []entry
	file *os.File // open as long as the process lives
	// torn: the last line of the file may have no line end. The next entry then starts
	// a new line.
	torn bool
	// damaged counts the unreadable lines of the file.
	damaged int
}

// openRecord reads the file in dir. If it returns an error, the record works in memory,
// without the file. An unreadable line affects no other line; a file with such lines is
// copied before it is shortened.
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

// read adds the entries of the file to the memory.
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

// parseEntry reads one line. A line of an earlier release is only an id.
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

// find returns the entry of a run, nil if there is none.
func (r *record) find(id string) *entry {
	// The latest run is asked for most often.
	for i := len(r.runs) - 1; i >= 0; i-- {
		if r.runs[i].ID == id {
			return &r.runs[i]
		}
	}
	return nil
}

func (r *record) remember(e entry) {
	if e.Check && e.End != nil { // it must not displace runs
		r.runs = slices.DeleteFunc(r.runs, func(old entry) bool { return old.ID == e.ID })
		return
	}
	if old := r.find(e.ID); old != nil {
		*old = e
		return
	}
	r.runs = append(r.runs, e)
	if len(r.runs) > maxRuns {
		r.runs = r.runs[1:]
	}
}

// unfinished returns the runs whose end is not recorded.
func (r *record) unfinished() []entry {
	var out []entry
	for _, e := range r.runs {
		if e.Boot != "" && e.End == nil {
			out = append(out, e)
		}
	}
	return out
}

// put records a run, also in the file. After an error only this process knows the
// entry.
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

// sync makes the file durable. Only the start of a run needs this: when this process
// dies, nothing is lost, and when the machine dies, all runs end with it.
func (r *record) sync() error {
	if r.file == nil {
		return nil
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return nil
}

// rewrite shortens the file to the runs that are remembered. A copy of the old content
// stays beside it until the new one is durable, and forever if parts of it were
// unreadable. The file keeps its inode, since an earlier runner may still write an end
// to it.
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

// copyTo makes a durable copy of the file at path, replacing any other file there.
func (r *record) copyTo(path string) error {
	f, err := proc.NewFile(path, 0o600)
	if err != nil {
		return err
	}
	_, err = r.file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(f, r.file)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// complete reports whether another process finds everything in the file.
func (r *record) complete() bool {
	return r == nil || len(r.runs) == 0 || r.file != nil && !r.torn
}

func (r *record) close() {
	if r != nil && r.file != nil {
		r.file.Close()
	}
}
