package supervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	for _, path := range paths {
		if err := ofVersion(path, opt.Build); err != nil {
			return err
		}
	}
	return nil
}

// ofVersion returns an error if a program is of another version than want, or can't tell.
func ofVersion(path, want string) error {
	ctx, done := context.WithTimeout(context.Background(), versionLimit)
	defer done()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env, cmd.WaitDelay = inherited(), time.Second
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s doesn't tell its version: %w", path, err)
	}
	words := strings.Fields(string(out))
	if len(words) < 2 || words[1] != want {
		return fmt.Errorf("%s is of another version than %s: it prints %q; install both from the same package", path, want, strings.TrimSpace(string(out)))
	}
	return nil
}
