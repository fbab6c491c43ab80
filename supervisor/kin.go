package supervisor

import (
	"context"
	"os"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
)

// family are the processes that the supervisor knows as its own.
type family struct {
	children []int // workers, prober, console and starter, which may decide nothing
	runner   int   // 0 for none, and for a service whose id is unknown
	session  int   // session id of the script in progress, 0 for none
}

func (s *supervisor) family() family {
	var f family
	for _, sl := range s.workers.slots {
		if sl.child != nil && sl.child.started != nil {
			f.children = append(f.children, sl.child.started.pid)
		}
	}
	for _, a := range s.aides() {
		if pid := a.processID(); pid != 0 {
			f.children = append(f.children, pid)
		}
	}
	if st := s.workers.starter; st != nil {
		f.children = append(f.children, st.PID())
	}
	if r := s.runner.end; r != nil && r.started != nil {
		f.runner = r.started.pid
		if !r.spawned {
			f.runner = r.pid
		}
	}
	if x := s.runner.current; x != nil {
		f.session = x.pgid
	}
	return f
}

// kin returns how the process that asks on the control socket is related to this
// supervisor.
//
// Every descendant of the supervisor belongs to it. That includes the scripts of a runner
// that it has started, and the processes that these have left behind, because the
// supervisor is their subreaper. Two kinds of process aren't recognised: one that another
// service starts for a script, and a descendant of a process that /proc hides from us.
func (o operator) kin(ctx context.Context, conn *ipc.Conn) (control.Kin, error) {
	f, err := ask(ctx, o.s, func(answer func(family, error)) { answer(o.s.family(), nil) })
	if err != nil {
		return control.Script, err
	}
	pid, alive, err := conn.PeerProcess()
	if err != nil {
		return control.Script, err
	}
	defer alive.Close()
	line, err := proc.Ancestry(pid)
	if err == nil {
		err = alive.Check() // otherwise the process id may have been reused
	}
	return f.kin(pid, line), err
}

// kin decides by a process and its ancestors; the process itself comes first.
func (f family) kin(pid int, line []proc.Process) control.Kin {
	if slices.Contains(f.children, pid) {
		return control.Child
	}
	self := os.Getpid()
	if slices.ContainsFunc(line, func(p proc.Process) bool {
		return p.PPID == self || p.PID == f.runner || f.session != 0 && p.SID == f.session
	}) {
		return control.Script
	}
	return control.Stranger
}
