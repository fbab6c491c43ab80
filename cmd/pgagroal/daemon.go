package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// readyVariable says that this process was started by daemonise, and that
// descriptor readyFD tells the one that did so.
const (
	readyVariable = "PGAGROAL_READY"
	readyFD       = 3
)

func isDaemon() bool { return os.Getenv(readyVariable) != "" }

// daemonise starts this program again in a session of its own and waits until
// it serves clients. It says itself what went wrong: it has our standard error.
func daemonise(args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run in the background: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = append(os.Environ(), readyVariable+"=1")
	// Nothing is printed from here on, and whoever reads our output must not wait
	// for the end of the daemon. Problems of the start are errors.
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("run in the background: %w", err)
	}
	w.Close()
	told, err := io.ReadAll(r)
	if err == nil && len(told) > 0 {
		return cmd.Process.Release()
	}
	if err := cmd.Wait(); err == nil {
		return errors.New("pgagroal ended before it was ready")
	}
	return errors.New("pgagroal could not start; see the lines before, or the log")
}

// tellParent says that clients are served.
func tellParent() {
	if !isDaemon() {
		return
	}
	os.Unsetenv(readyVariable)
	f := os.NewFile(readyFD, "ready")
	if f == nil {
		return
	}
	_, _ = f.WriteString("1") // nobody waits any more if it fails
	f.Close()
}
