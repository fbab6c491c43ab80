package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// cpuClock is the kind of a process's clock that counts the time on a processor.
const cpuClock = 2

// CPUTime returns how much time on a processor a process has used. The kernel tells it of every
// process, also of those that /proc hides.
func CPUTime(pid int) (time.Duration, error) {
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClock), &used); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// Starves reports whether /proc shows that a thread of the process has something to do and waits
// for a processor or a disk, or is running. A process that hangs has none, unless it turns in
// circles. It reads files of /proc, none of which waits for the process. Where /proc is mounted
// with hidepid, or hidden by ProtectProc= of systemd, it shows no children, and Starves is false.
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
