package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used: time of the processor since its start, and memory that
// it has in use now, in bytes, which is 0 if /proc hides the process.
type Usage struct {
	CPU      time.Duration
	Resident int64
}

// UsageOf returns what a process has used.
func UsageOf(pid int) (Usage, error) {
	cpu, err := CPUTime(pid)
	if err != nil {
		return Usage{}, err
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return Usage{CPU: cpu}, nil // hidden
	}
	f := strings.Fields(string(b)) // size, resident, ...
	if len(f) < 2 {
		return Usage{}, fmt.Errorf("usage of process %d: statm can't be read", pid)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	return Usage{CPU: cpu, Resident: pages * int64(os.Getpagesize())}, nil
}
