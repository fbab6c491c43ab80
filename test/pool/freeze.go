package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Freeze stops a process, and waits until all its threads have stopped: they don't do so at once, and one
// that runs on may still take a client.
func Freeze(t testing.TB, pid int) {
	t.Helper()
	Must(t, syscall.Kill(pid, syscall.SIGSTOP))
	var running string
	pgtest.WaitUntil(t, Generous, fmt.Sprintf("process %d to stop", pid), func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		running = ""
		for _, file := range threads {
			stat, err := os.ReadFile(file) // fails for a thread that has just ended
			text := string(stat)
			if after := strings.LastIndexByte(text, ')') + 2; err == nil && after > 1 && after < len(text) && text[after] != 'T' {
				running = text
			}
		}
		return err == nil && len(threads) > 0 && running == ""
	}, func() string { return running })
}
