package pool

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// PeakMemory returns the high-water mark of a process's resident memory, bytes.
func PeakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("process %d has no VmHWM", pid)
	return 0
}

// Workers returns the process ids of the workers.
func (p *Pool) Workers() []int { return p.children("worker") }

// Prober returns the process id of the prober, 0 for none.
func (p *Pool) Prober() int {
	if ids := p.children("prober"); len(ids) > 0 {
		return ids[0]
	}
	return 0
}

// Console returns the process id of the console, 0 for none.
func (p *Pool) Console() int {
	if ids := p.children("console"); len(ids) > 0 {
		return ids[0]
	}
	return 0
}

// Runner returns the process id of the script runner, 0 for none.
func (p *Pool) Runner() int {
	if ids := p.children("scriptrunner"); len(ids) > 0 {
		return ids[0]
	}
	return 0
}

// Starter returns the process id of the starter, which starts workers under worker_user; 0
// for none.
func (p *Pool) Starter() int {
	if ids := p.children("starter"); len(ids) > 0 {
		return ids[0]
	}
	return 0
}

// Titled reports whether ps shows a process in this role of pgagroal.
func Titled(pid int, role string) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.HasPrefix(string(cmdline), "pgagroal: "+role)
}

// children finds the supervisor's children by the title that ps shows.
func (p *Pool) children(role string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.T.Fatal(err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !Titled(pid, role) {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		rest := stat[bytes.LastIndexByte(stat, ')')+1:]
		if f := strings.Fields(string(rest)); len(f) > 1 && f[1] == strconv.Itoa(p.PID()) && f[0] != "Z" {
			out = append(out, pid)
		}
	}
	return out
}

// BothWorkers connects clients until each of two workers has one, and returns
// them by the process id of their worker.
func BothWorkers(t testing.TB, p *Pool) map[int]*pgtest.Client {
	t.Helper()
	found := map[int]*pgtest.Client{}
	for range 6 {
		cl := p.Connect()
		if worker := p.WorkerOf(cl); found[worker] == nil {
			found[worker] = cl
		}
		if len(found) == 2 {
			return found
		}
	}
	t.Fatalf("six clients are all on one worker: %v", found)
	return nil
}

// WorkerOf returns the process id of the worker that serves a client.
func (p *Pool) WorkerOf(cl *pgtest.Client) int {
	p.T.Helper()
	list, _ := p.JSON("status", "details")["Connections"].([]any)
	for _, e := range list {
		c, _ := e.(map[string]any)
		if c["Client"] == cl.Conn().LocalAddr().String() {
			pid, _ := c["PID"].(float64)
			return int(pid)
		}
	}
	p.T.Fatalf("status doesn't know the client at %v: %v", cl.Conn().LocalAddr(), list)
	return 0
}

// RootOnly skips a test that only root can run.
func RootOnly(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root; run the tests as root too")
	}
}
