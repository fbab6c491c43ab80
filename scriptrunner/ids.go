package scriptrunner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// maxIDs is how many run ids are remembered.
const maxIDs = 1024

// idsName is the file of the run ids, one a line, oldest first.
const idsName = "scriptrunner.runs"

// runIDs are the runs that were started, the latest maxIDs of them. A nil
// *runIDs can't be used; one without a file remembers until the process ends.
type runIDs struct {
	ids  []string
	file *os.File // open as long as the process lives
}

// openRunIDs reads the file in dir. With an error it still returns a memory,
// which lacks the file.
func openRunIDs(dir string) (*runIDs, error) {
	if dir == "" {
		return &runIDs{}, errors.New("there is no directory for run ids")
	}
	path := filepath.Join(dir, idsName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return &runIDs{}, fmt.Errorf("open run ids: %w", err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return &runIDs{}, fmt.Errorf("read run ids: %w", err)
	}
	r := &runIDs{file: f}
	for l := range bytes.Lines(b) {
		// A line without its end is a start that was never reported either.
		if id, whole := bytes.CutSuffix(l, []byte("\n")); whole {
			r.remember(string(id))
		}
	}
	if bytes.Count(b, []byte("\n")) > 2*maxIDs || len(b) > 0 && b[len(b)-1] != '\n' {
		err = r.rewrite()
	}
	return r, err
}

func (r *runIDs) has(id string) bool { return slices.Contains(r.ids, id) }

func (r *runIDs) remember(id string) {
	r.ids = append(r.ids, id)
	if len(r.ids) > maxIDs {
		r.ids = r.ids[1:]
	}
}

// add remembers an id. An error means that only this process knows it.
func (r *runIDs) add(id string) error {
	r.remember(id)
	if r.file == nil {
		return nil
	}
	if _, err := r.file.WriteString(id + "\n"); err != nil {
		return fmt.Errorf("record run id: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("record run id: %w", err)
	}
	return nil
}

// rewrite shortens the file to what is remembered. Ids are lost when the
// machine dies in it; the supervisor has its own record of runs.
func (r *runIDs) rewrite() error {
	var b bytes.Buffer
	for _, id := range r.ids {
		b.WriteString(id + "\n")
	}
	if err := r.file.Truncate(0); err != nil {
		return fmt.Errorf("shorten run ids: %w", err)
	}
	if _, err := r.file.Write(b.Bytes()); err != nil {
		return fmt.Errorf("shorten run ids: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("shorten run ids: %w", err)
	}
	return nil
}

func (r *runIDs) close() {
	if r != nil && r.file != nil {
		r.file.Close()
	}
}
