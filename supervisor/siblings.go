package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// runnerProgram is the script runner as a service of its own.
	runnerProgram = "pgagroal-scriptrunner"
	// versionLimit is how long a program may take to print its version.
	versionLimit = 5 * time.Second
)

// trySiblings makes sure that the programs beside this one, which it starts or is linked to, are
// of its version: while a package is being installed, some are not. All other children are this program.
func trySiblings(opt Options, console *os.File) error {
	var paths []string
	if console != nil {
		paths = append(paths, console.Name())
	}
	if self, err := os.Executable(); err == nil && opt.Config.ScriptrunnerSocket != "" {
		path := filepath.Join(filepath.Dir(self), runnerProgram)
		if _, err := os.Stat(path); err == nil { // the service may have its program elsewhere
			paths = append(paths, path)
		}
	}
	said := make([]error, len(paths))
	var asked sync.WaitGroup
	for i, path := range paths {
		asked.Go(func() { said[i] = ofVersion(path, opt.Build, versionLimit) })
	}
	asked.Wait()
	return errors.Join(said...)
}

// ofVersion returns an error if a program is of another version than want, or can't tell.
func ofVersion(path, want string, limit time.Duration) error {
	ctx, done := context.WithTimeout(context.Background(), limit)
	defer done()
	cmd := exec.CommandContext(ctx, path, "--version")
	var complaint bytes.Buffer
	cmd.Env, cmd.WaitDelay, cmd.Stderr = inherited(), time.Second, &bounded{&complaint}
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s doesn't tell its version within %v", path, limit)
	case err != nil && complaint.Len() > 0:
		return fmt.Errorf("%s doesn't tell its version: %w: %s", path, err, strings.TrimSpace(complaint.String()))
	case err != nil:
		return fmt.Errorf("%s doesn't tell its version: %w", path, err)
	}
	words := strings.Fields(string(out))
	if len(words) < 2 || words[1] != want {
		return fmt.Errorf("%s is of another version than %s: it prints %q; install both from the same package", path, want, strings.TrimSpace(string(out)))
	}
	return nil
}
