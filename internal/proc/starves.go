package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// Starves reports whether a thread of the process has something to do and waits for a processor
// or a disk, or is running. A process that hangs has none, unless it turns in circles. It reads
// files of /proc, none of which waits for the process.
func Starves(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // fails only for a malformed pattern
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, can hold anything; the state follows it.
		after := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(after) > 0 && (after[0] == 'R' || after[0] == 'D') {
			return true
		}
	}
	return false
}
