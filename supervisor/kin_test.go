package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
)

func TestKinTellsChildrenAndScriptsFromStrangers(t *testing.T) {
	self := os.Getpid()
	line := func(p ...proc.Process) []proc.Process { return p }
	for name, tt := range map[string]struct {
		pid  int
		line []proc.Process
		want control.Kin
	}{
		"a worker":                         {7, line(proc.Process{PID: 7, PPID: self}), control.Child},
		"a worker that can't be looked at": {7, nil, control.Child},
		"an orphan that fell to us":        {8, line(proc.Process{PID: 8, PPID: self}), control.Script},
		"a grandchild of the runner":       {9, line(proc.Process{PID: 9, PPID: 10}, proc.Process{PID: 10, PPID: 50}, proc.Process{PID: 50, PPID: 1}), control.Script},
		"of the session of a run":          {9, line(proc.Process{PID: 9, PPID: 1, SID: 60}), control.Script},
		"an operator":                      {9, line(proc.Process{PID: 9, PPID: 10, SID: 10}, proc.Process{PID: 10, PPID: 1, SID: 10}), control.Stranger},
		"of another namespace":             {0, nil, control.Stranger},
		"the supervisor itself":            {self, line(proc.Process{PID: self, PPID: 1}), control.Stranger},
	} {
		f := family{children: []int{7}, runner: 50, session: 60}
		if got := f.kin(tt.pid, tt.line); got != tt.want {
			t.Errorf("%s is a %v, want %v", name, got, tt.want)
		}
	}
	// Nothing runs, so nobody's session is 0.
	if got := (family{}).kin(9, line(proc.Process{PID: 9, PPID: 1})); got != control.Stranger {
		t.Errorf("without scripts an operator is a %v", got)
	}
}

func TestWorkersAndProberAreChildren(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	f := w.s.family()
	for name, pid := range map[string]int{
		"a worker": w.s.workers.slots[0].child.started.pid, "another worker": w.s.workers.slots[1].child.started.pid, "the prober": proberPID,
	} {
		if got := f.kin(pid, nil); got != control.Child {
			t.Errorf("%s is a %v", name, got)
		}
	}
}

func TestAncestryLeadsToTheProcessThatStartedIt(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & echo $!; read x; kill $!")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	line, err := proc.Ancestry(pid)
	if err != nil || len(line) < 3 || line[0].PID != pid || line[1].PID != cmd.Process.Pid || line[2].PID != os.Getpid() {
		t.Errorf("ancestors of %d are %+v, %v; want %d and %d", pid, line, err, cmd.Process.Pid, os.Getpid())
	}
	if line, err := proc.Ancestry(0); err != nil || len(line) != 0 {
		t.Errorf("process 0 has ancestors %+v, %v", line, err)
	}
}
