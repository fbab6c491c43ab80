package proc

import (
	"os/exec"
	"syscall"
	"testing"
)

// A process that always has something to do, one that is stopped in the middle of it, and one that waits.
func TestAProcessThatHasSomethingToDoStarves(t *testing.T) {
	t.Parallel()
	busy := startUntilEnd(t, "nice", "-n", "19", "sh", "-c", "while :; do :; done")
	waitUntil(t, "it is busy", func() bool { return Starves(busy) })
	if err := syscall.Kill(busy, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "it is stopped", func() bool { return !Starves(busy) })
	idle := startUntilEnd(t, "sleep", "1000")
	waitUntil(t, "it waits", func() bool { return !Starves(idle) })
	if Starves(0) {
		t.Error("nobody starves")
	}
}

// startUntilEnd starts a process that ends with the test, and returns its id.
func startUntilEnd(t *testing.T, args ...string) int {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}
