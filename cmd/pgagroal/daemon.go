package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// readyVariable says that daemonise has started this process, and that it must
// report over descriptor readyFD when clients are served.
const (
	readyVariable = "PGAGROAL_READY"
	readyFD       = 3
)

func isDaemon() bool { return os.Getenv(readyVariable) != "" }

// daemonise starts this program again in a session of its own and waits until it
// serves clients. The daemon reports errors itself, because it has our standard
// error.
func daemonise(args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run in the background: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = append(os.Environ(), readyVariable+"=1")
	// The daemon doesn't get our standard output: it prints nothing there, and a program
	// that reads our output must not wait for the end of the daemon. Errors of the start
	// go to standard error.
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

// tellParent tells the waiting process that clients are served.
func tellParent() {
	if !isDaemon() {
		return
	}
	os.Unsetenv(readyVariable)
	f := os.NewFile(readyFD, "ready")
	if f == nil {
		return
	}
	_, _ = f.WriteString("1") // if it fails, nobody is waiting any more
	f.Close()
}
