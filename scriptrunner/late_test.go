package scriptrunner

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// touched says whether the script of these tests was executed.
func touched(t *testing.T, r *rig) bool {
	t.Helper()
	_, err := os.Stat(r.path("executed"))
	return err == nil
}

func touching(r *rig) string { return "touch " + r.path("executed") }

func TestAnExpiredRunIsNotExecuted(t *testing.T) {
	for name, expires := range map[string]int64{"a moment ago": in(-time.Millisecond), "never said": 0} {
		r := newRig(t, nil)
		r.script("failover", touching(r))
		r.spawn()
		r.ready()
		m := r.newRun("failover")
		m.Expires = expires
		r.refused(m, "the run came too late")
		if touched(t, r) {
			t.Errorf("%s: executed", name)
		}
		if e := r.perform(r.newRun("failover")); e.Exit != 0 || !touched(t, r) {
			t.Errorf("%s: the next run ended with %+v", name, e)
		}
	}
}

// The process hangs from before the message until after the expiry.
func TestARunnerThatWakesUpLateExecutesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", touching(r))
	r.spawn()
	r.ready()
	if err := r.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "each thread of the runner stops", func() bool { return frozen(t, r.process.Pid) })
	m := r.newRun("failover")
	m.Expires = in(50 * time.Millisecond)
	r.send(m)
	waitUntil(t, "the run has expired", func() bool { return proc.SinceBoot().Milliseconds() > m.Expires })
	if err := r.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if e := receive[*ipc.RunEnded](r); !strings.Contains(e.Refused, "the run came too late") || touched(t, r) {
		t.Errorf("ended with %+v, executed: %v", e, touched(t, r))
	}
}

// frozen reports whether no thread of a process runs any more: a signal that stops it lets
// them go on for a moment.
func frozen(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err == nil && !strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " T ") {
			return false
		}
	}
	return true
}

// linked is a runner in this process whose supervisor reads nothing.
func linked(t *testing.T, r *rig) *runner {
	t.Helper()
	conn, theirs, err := ipc.Pair(ipc.RoleRunner, ipc.RoleSupervisor, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	x := &runner{log: slog.New(slog.DiscardHandler), done: make(chan struct{}), record: &record{}}
	if x.hooks, err = loadHooks(r.conf); err != nil {
		t.Fatal(err)
	}
	conn.SetPhase(ipc.PhaseRunning)
	x.link = &link{conn: conn, ready: true}
	x.link.out = ipc.NewOutbox(conn, queueLimit, limit, func(error) {})
	t.Cleanup(func() {
		theirs.Close()
		conn.Close()
		x.link.out.Close()
		<-x.link.out.Done()
	})
	return x
}

// hung is a linked runner with so much unread that nothing more fits into the link.
func hung(t *testing.T, r *rig) *runner {
	t.Helper()
	x := linked(t, r)
	for n := 0; x.link.out.Idle(); n++ {
		if err := x.link.out.Send(&ipc.RunOutput{RunID: "r", Line: strings.Repeat("x", 1000)}); err != nil || n > 100000 {
			t.Fatal("the link is never full", err)
		}
	}
	return x
}

// The work right before the exec takes until after the expiry; the clock is checked after
// that work.
func TestAHangRightBeforeTheScriptIsNoticed(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", touching(r))
	x := hung(t, r)
	m := r.newRun("failover")
	m.Expires = in(2 * time.Second)
	k, err := x.admit(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.start(m, k, false); err == nil || !strings.Contains(err.Error(), "the run came too late") {
		t.Errorf("%v", err)
	}
	if e := x.record.find(m.RunID); e == nil || e.End == nil || e.End.Refused == "" {
		t.Errorf("the record says %+v", e)
	}
	if touched(t, r) || x.run != nil {
		t.Error("executed")
	}
}

// The announcement of the script is in the socket at once here, and so looks at no clock. The
// only look is the one right before the exec.
func TestTheClockIsLookedAtAfterAllPreparations(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", touching(r))
	x := linked(t, r)
	m := r.newRun("failover")
	k, err := x.admit(m)
	if err != nil {
		t.Fatal(err)
	}
	m.Expires = in(-time.Second)
	p, out, err := x.launch(m, k, nil)
	if err == nil || !strings.Contains(err.Error(), "the run came too late") || touched(t, r) {
		t.Errorf("%v, executed: %v", err, touched(t, r))
	}
	if p != nil {
		out.pipe.Close()
		_, _ = p.Wait()
	}
}

// The kernel takes until after the expiry to execute the script. The script waits for what
// never comes, so only a signal ends it before its time-out.
func TestAScriptThatTheKernelStartsTooLateIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, settings{"failover_script_timeout": "30s"})
	r.gate("never")
	r.script("failover", "read x < "+r.path("never"))
	r.script("notify", "exit 3")
	release := holdExec(t, r.path("failover"))
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	m.Expires = in(10 * time.Second)
	r.send(m)
	receive[*ipc.RunStarting](r)
	release(func() {
		waitUntil(t, "the run has expired", func() bool { return proc.SinceBoot().Milliseconds() > m.Expires })
	})
	receive[*ipc.RunStarted](r)
	if e := r.end(); e.Signal != "SIGKILL" || e.TimedOut {
		t.Errorf("ended with %+v", e)
	}
	if e := r.perform(r.newRun("notify")); e.Exit != 3 {
		t.Errorf("the next run ended with %+v", e)
	}
}

// holdExec has the kernel ask before it executes a file. The result waits for the question, calls
// meanwhile, and answers.
func holdExec(t *testing.T, path string) func(meanwhile func()) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, path)
	}
	if err != nil {
		t.Skip("takes root and a kernel that asks before it executes a file:", err)
	}
	events := os.NewFile(uintptr(fd), "fanotify")
	t.Cleanup(func() { events.Close() })
	return func(meanwhile func()) {
		t.Helper()
		if err := events.SetDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := events.Read(b)
		if err != nil || n < unix.FAN_EVENT_METADATA_LEN {
			t.Fatalf("the kernel asks nothing: %d bytes, %v", n, err)
		}
		var e unix.FanotifyEventMetadata
		var answer bytes.Buffer
		if err := binary.Read(bytes.NewReader(b[:n]), binary.NativeEndian, &e); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(int(e.Fd))
		meanwhile()
		_ = binary.Write(&answer, binary.NativeEndian, unix.FanotifyResponse{Fd: e.Fd, Response: unix.FAN_ALLOW})
		if _, err := events.Write(answer.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAHeartbeatTellsTheTime(t *testing.T) {
	r := simple(t, nil, "exit 0")
	before := proc.SinceBoot().Milliseconds()
	r.send(&ipc.CheckHooks{ID: 5})
	m := receive[*ipc.HooksChecked](r)
	if after := proc.SinceBoot().Milliseconds(); m.ID != 5 || m.Clock < before || m.Clock > after {
		t.Errorf("%+v is not between %d and %d", m, before, after)
	}
}

// A script that has become another user, as through sudo, can't be killed.
func TestAScriptThatCannotBeKilledIsGivenUp(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("takes root: the script becomes another user than the runner")
	}
	r := newRig(t, settings{"failover_script_timeout": "3s", "failover_kill_delay": "200ms"})
	cred, err := proc.CredentialOf("daemon")
	if err != nil {
		t.Fatal(err)
	}
	r.user = cred
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	r.script("failover", "RUNNER_TEST_ROOT=1 exec "+r.path("root"))
	r.script("notify", "exit 3")
	for path, mode := range map[string]os.FileMode{r.path("root"): 0o755 | os.ModeSetuid, r.conf: 0o644, r.path("failover"): 0o755, r.path("notify"): 0o755, r.dir: 0o755, r.path(".."): 0o755} {
		if path == r.path("root") {
			err = os.WriteFile(path, self, 0o755)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(r.dir, int(cred.Uid), int(cred.Gid)); err != nil {
		t.Fatal(err)
	}
	r.spawn()
	r.ready()
	pid := r.begin(r.newRun("failover"))
	killAtEnd(t, pid)
	if line := r.line(); line != strconv.Itoa(pid) {
		t.Fatalf("the script says %q", line)
	}
	e := r.end()
	if !e.TimedOut || e.Exit != -1 || len(e.Left) != 1 || e.Left[0] != pid || !proc.ProcessAlive(pid) {
		t.Errorf("ended with %+v; process %d lives: %v", e, pid, proc.ProcessAlive(pid))
	}
	if e := r.perform(r.newRun("notify")); e.Exit != 3 || len(e.Left) > 0 {
		t.Errorf("the next run ended with %+v", e)
	}
	r.conn.Close()
	r.ended = true
	if st, err := r.process.Wait(); err != nil || st.ExitCode() != 0 && st.ExitCode() != 4 { // 4: its waiter is left
		t.Errorf("the runner ended with %v, %v", st, err)
	}
}

func TestTheServiceWantsToBeShownTheSecret(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", touching(r))
	r.serve()
	secret := r.secret
	for _, wrong := range []string{"", secret[1:], strings.Repeat("0", len(secret))} {
		r.send(&ipc.RunnerConfigure{Gen: 1, ConfigPath: r.conf, Secret: ipc.Secret(wrong)})
		if err := r.conn.SetDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		if env, err := r.conn.Receive(); err == nil || os.IsTimeout(err) {
			t.Errorf("with the secret %q it says %T %+v, %v", wrong, env.Message, env.Message, err)
		}
		r.connect()
	}
	if m := r.ready(); m.Error != "" {
		t.Errorf("the supervisor gets %+v", m)
	}
	if e := r.perform(r.newRun("failover")); e.Exit != 0 || !touched(t, r) {
		t.Errorf("ended with %+v", e)
	}
	b, err := os.ReadFile(r.path("log"))
	if err != nil || strings.Contains(string(b), secret) || !strings.Contains(string(b), "has not proved that it is the supervisor") {
		t.Errorf("%v, log:\n%s", err, b)
	}
}

func TestScriptsCannotAskForRuns(t *testing.T) {
	r := newRig(t, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	try := "RUNNER_TEST_DIAL=" + r.path("socket") + " "
	r.script("failover", strings.Join([]string{
		try + self,
		"env -i " + try + self + " # without the mark",
		try + "setsid -f " + self + " >" + r.path("stray") + " 2>&1 # without a parent",
	}, "\n"))
	r.serve()
	r.ready()
	r.perform(r.newRun("failover"))
	if got := r.text(); strings.Join(got, ",") != "turned away,turned away" {
		t.Errorf("scripts that connect say %q", got)
	}
	waitUntil(t, "the stray process has tried", func() bool {
		b, err := os.ReadFile(r.path("stray"))
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	if b, err := os.ReadFile(r.path("stray")); err != nil || string(b) != "turned away\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestScriptsDoNotRunAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root")
	}
	r := newRig(t, settings{"user": "daemon"})
	if _, err := loadHooks(r.conf); err == nil || !strings.Contains(err.Error(), "don't run as root") {
		t.Errorf("%v", err)
	}
	cmd := r.asService()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "don't run as root, and user = daemon is configured") {
		t.Errorf("the service: %v, %s", err, out)
	}
}
