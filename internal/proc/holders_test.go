package proc

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A process that inherited the locked file description holds the lock, even after the
// process that took the lock has closed it. A process that merely opened the file doesn't.
func TestLockHoldersAreThoseWithTheLockedDescription(t *testing.T) {
	dir := t.TempDir()
	lock, held, _, err := Lock(dir)
	if err != nil || held {
		t.Fatalf("lock: held %v, %v", held, err)
	}
	other, err := os.Open(lock.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	holder, reader := stray(t, lock), stray(t, other)
	again, held, _, err := Lock(dir)
	if err != nil || !held {
		t.Fatalf("lock again: held %v, %v", held, err)
	}
	defer again.Close()
	lock.Close()
	found, err := LockHolders(again)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].PID != holder {
		t.Fatalf("found %v, want process %d and not %d", found, holder, reader)
	}
	if got := found[0].Command(); got != "sleep 1000" {
		t.Errorf("its command is %q, want sleep 1000", got)
	}
}

// stray starts a process that has a file open and isn't a descendant of this one.
func stray(t *testing.T, file *os.File) int {
	t.Helper()
	sh := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	sh.ExtraFiles = []*os.File{file}
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}
