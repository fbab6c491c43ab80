package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used: time of the processor since its start, and memory that
// it has in use now, in bytes.
type Usage struct {
	CPU      time.Duration
	Resident int64
}

// clockTick is the unit of times in /proc, which is the same on all architectures of Linux.
const clockTick = 10 * time.Millisecond

// UsageOf reads from /proc what a process has used.
func UsageOf(pid int) (Usage, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	line := string(b)
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(f) < 22 {
		return Usage{}, fmt.Errorf("usage of process %d: stat can't be read", pid)
	}
	var n [3]int64
	for i, at := range []int{11, 12, 21} { // utime, stime, rss
		if n[i], err = strconv.ParseInt(f[at], 10, 64); err != nil {
			return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
		}
	}
	return Usage{CPU: time.Duration(n[0]+n[1]) * clockTick, Resident: n[2] * int64(os.Getpagesize())}, nil
}
