package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// machine describes where and how something was measured, without host names and paths.
type machine struct {
	Processor  string
	Processors int
	MemoryMiB  uint64
	Kernel     string
	Pgagroal   string
	PgBouncer  string
	Newer      string // PgBouncer of -pgbouncer, empty without
	HAProxy    string // empty when there is none
	PostgreSQL string
	Go         string
	Rounds     int
	Seconds    int // of one measurement with pgbench
	Warmup     int // seconds
	Scale      int
	Pinned     bool
	Idle       int // clients whose memory is measured
	Settle     string
	Window     string
}

func (r *rig) describe(ctx context.Context) machine {
	m := machine{
		Processor: processor(), Processors: runtime.NumCPU(), Kernel: kernel(), Go: runtime.Version(),
		Pgagroal:   version(ctx, r.programs+"/pgagroal", "--version"),
		PgBouncer:  version(ctx, r.peer, "--version"),
		PostgreSQL: version(ctx, pgtest.Binary("postgres"), "--version"),
		Rounds:     r.rounds, Seconds: seconds(r.duration), Warmup: seconds(r.warmup), Scale: r.scale,
		Pinned: r.pin, Idle: r.idleClients(workload{}), Settle: r.settle.String(), Window: r.window.String(),
	}
	if r.options.newer != "" {
		m.Newer = version(ctx, r.options.newer, "--version")
	}
	if r.proxy != "" {
		m.HAProxy = version(ctx, r.proxy, "-v")
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.MemoryMiB = uint64(info.Totalram) * uint64(info.Unit) >> 20
	}
	return m
}

// processor returns the kernel's name of the first CPU.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// version returns the first line of a program's version text.
func version(ctx context.Context, program, option string) string {
	out, err := exec.CommandContext(ctx, program, option).Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first
}

// followsPrepared reports whether PgBouncer follows prepared statements in its
// transaction mode, which it does since 1.21.
func followsPrepared(version string) bool {
	fields := strings.Fields(version)
	if len(fields) < 2 {
		return false
	}
	numbers := strings.Split(fields[1], ".")
	if len(numbers) < 2 {
		return false
	}
	major, majorErr := strconv.Atoi(numbers[0])
	minor, minorErr := strconv.Atoi(numbers[1])
	return majorErr == nil && minorErr == nil && (major > 1 || major == 1 && minor >= 21)
}
