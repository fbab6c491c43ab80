package supervisor

import (
	"fmt"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// processUse is how much processor and memory a process has used.
type processUse struct {
	name     string
	pid      int
	cpu      time.Duration
	resident int64
}

// usage is the use of all processes by their names. What an earlier process of a name has
// used is added, so that the time never falls.
type usage struct {
	now  map[string]processUse
	last map[string]processUse    // also of processes that are missing now
	gone map[string]time.Duration // of earlier processes
}

func (u *usage) note(seen []processUse) {
	if u.gone == nil {
		u.gone, u.last = map[string]time.Duration{}, map[string]processUse{}
	}
	u.now = map[string]processUse{}
	for _, p := range seen {
		// A process may be missing for a while, for example while its link is made anew.
		if was := u.last[p.name]; was.pid != p.pid || was.cpu > p.cpu {
			u.gone[p.name] += was.cpu
		}
		u.now[p.name], u.last[p.name] = p, p
	}
}

// processes names all processes of pgagroal that this one may look at.
func (s *supervisor) processes() []processUse {
	list := []processUse{{name: "supervisor", pid: os.Getpid()}}
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.started != nil {
			list = append(list, processUse{name: fmt.Sprintf("worker %d", c.index), pid: c.started.pid})
		}
	}
	for _, a := range s.aides() {
		if pid := a.processID(); pid != 0 {
			list = append(list, processUse{name: a.name, pid: pid})
		}
	}
	if r := s.runner.end; r != nil && r.pid != 0 {
		list = append(list, processUse{name: "runner", pid: r.pid})
	}
	return list
}

// readUsage asks the kernel, for memory /proc. It leaves out processes that have ended.
func readUsage(list []processUse) ([]processUse, error) {
	var all []processUse
	var failed error
	for _, p := range list {
		u, err := proc.UsageOf(p.pid)
		if err != nil {
			failed = err
			continue
		}
		p.cpu, p.resident = u.CPU, u.Resident
		all = append(all, p)
	}
	return all, failed
}

func (s *supervisor) snapshotProcesses(id uint64, send func(ipc.Message)) {
	for name, p := range s.console.usage.now {
		m := &ipc.SnapshotProcess{ID: id, Name: name, CPU: (p.cpu + s.console.usage.gone[name]).Seconds(), Resident: p.resident, AnswerUS: -1}
		for _, sl := range s.workers.slots {
			if c := sl.child; c != nil && c.started != nil && c.started.pid == p.pid && (c.stats.last != nil || c.stats.asked) {
				m.AnswerUS = s.answerTime(c).Microseconds()
			}
		}
		send(m)
	}
}

// answerTime is how long a worker took to answer the last request for figures. A worker that has
// not answered yet took at least the time until now.
func (s *supervisor) answerTime(c *child) time.Duration {
	if c.stats.asked {
		return max(c.stats.took, s.env.now()-c.stats.sent)
	}
	return c.stats.took
}
