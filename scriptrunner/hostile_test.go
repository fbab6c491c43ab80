package scriptrunner

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// taskLimit bounds all processes and threads of the user of a bomb, those of its
// runner included.
const taskLimit = 64

// processesOf returns the living processes of a user.
func processesOf(t *testing.T, uid int) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, d := range dirs {
		info, err := os.Stat(d)
		if err != nil {
			continue // it has ended
		}
		pid := number(t, filepath.Base(d))
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid && proc.ProcessAlive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unusedUser is the id of a user that nothing runs as and nobody knows.
func unusedUser(t *testing.T) int {
	t.Helper()
	for uid := 50000 + os.Getpid()%5000; ; uid++ {
		if len(processesOf(t, uid)) == 0 {
			return uid
		}
	}
}

// spawnAs starts the runner as another user, whose the directory becomes.
func (r *rig) spawnAs(uid int) {
	r.t.Helper()
	files, err := filepath.Glob(r.dir + "/*")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range append(files, r.dir) {
		if err := os.Chown(f, uid, uid); err != nil {
			r.t.Fatal(err)
		}
	}
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleRunner, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	defer theirs.Close()
	p, err := proc.Spawn(proc.Spec{
		Stderr: r.log(), Role: proc.RoleRunner, Argv0: "pgagroal: scriptrunner", Files: []*os.File{theirs},
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
		Env:        []string{"GORACE=atexit_sleep_ms=0", "PATH=/usr/bin:/bin"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.conn, r.process, r.ended = conn, p, false
	r.t.Cleanup(r.stop)
	r.hello()
}

// bomb never ends by itself; a shell would end when it can't fork. Each process leads
// a session, so none can be reached through the group of the script.
const bomb = `exec perl -MPOSIX=setsid -e '
$SIG{TERM} = $SIG{CHLD} = "IGNORE"; $| = 1;
while (1) { my $p = fork; if (!defined $p) { print "limit\n" } elsif (!$p) { setsid } }'`

func TestForkBombIsEndedWithItsRun(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start a script as a user of its own, whose processes are then limited without harm to others; run the tests as root too")
	}
	uid := unusedUser(t)
	dir, err := os.MkdirTemp("", "bomb") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, conf: filepath.Join(dir, "pgagroal.conf")}
	r.configure(settings{"failover_kill_delay": "100ms"})
	r.script("bomb", bomb)
	// Without the limit itself, the script lives until it is stopped.
	r.script("failover", fmt.Sprintf("prlimit --nproc=%d:%d -- %s &\nwhile :; do sleep 0.1; done", taskLimit, taskLimit, r.path("bomb")))
	r.script("notify", "exit 0")
	r.spawnAs(uid)
	t.Cleanup(func() { // whatever the runner does
		waitUntil(t, "all processes of the bomb are gone", func() bool {
			left := slices.DeleteFunc(processesOf(t, uid), func(pid int) bool { return pid == r.process.Pid })
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return len(left) == 0
		})
	})
	r.ready()
	m := r.newRun("failover")
	r.begin(m)
	for r.line() != "limit" {
	}
	most, over := make(chan int), make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-over:
				most <- n
				return
			default:
				n = max(n, len(processesOf(t, uid)))
			}
		}
	}()
	r.send(&ipc.StopRun{RunID: m.RunID})
	e := r.end()
	close(over)
	if n := <-most; n > taskLimit {
		t.Errorf("%d processes", n)
	}
	if e.Signal == "" {
		t.Errorf("ended with %+v", e)
	}
	if left := processesOf(t, uid); len(left) != 1 || left[0] != r.process.Pid {
		t.Errorf("processes %v are left beside the runner, %d", left, r.process.Pid)
	}
	if e := r.perform(r.newRun("notify")); e.Exit != 0 {
		t.Errorf("the next run ended with %+v", e)
	}
}

// The end of its output is not the end of a script.
func TestScriptThatClosesAllItsDescriptorsGoesOn(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; exec <&- >&- 2>&-; : > "+r.path("closed")+"; read x < "+r.path("gate")+"; exit 5")
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	pid := r.begin(m)
	r.line()
	waitUntil(t, "the script has closed its output", func() bool {
		_, err := os.Stat(r.path("closed"))
		return err == nil
	})
	// Longer than output is awaited after the end of a script.
	for end := time.Now().Add(pipeWait + pipeWait/2); time.Now().Before(end); {
		if got := r.ready(); got.Running != m.RunID {
			t.Fatalf("the runner says %+v", got)
		}
	}
	if !proc.ProcessAlive(pid) {
		t.Error("the script was ended")
	}
	open()
	if e := r.end(); e.Exit != 5 {
		t.Errorf("ended with %+v", e)
	}
}
