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
	children []int // that decide nothing: the workers
	runner   int   // 0 for none, and for a service of which the id can't be told
	session  int   // of the script that runs, 0 for none
}

func (s *supervisor) family() family {
	var f family
	for _, sl := range s.workers.slots {
		if sl.child != nil && sl.child.started != nil {
			f.children = append(f.children, sl.child.started.pid)
		}
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

// kin says what the process that asks on the control socket is to us.
//
// Everything below the supervisor is its own: scripts of a runner that it has
// spawned, and what they left behind, which falls to the supervisor as subreaper.
// A script that escapes from all of that, by having another service start something,
// isn't recognised, nor is one below a process that /proc hides from us.
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
		err = alive.Check() // else the id may have been another process's by now
	}
	return f.kin(pid, line), err
}

// kin judges by a process and its ancestors, itself first.
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
