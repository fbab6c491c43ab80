package scriptrunner

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// serve starts the runner as a service and connects to it.
func (r *rig) serve() {
	r.t.Helper()
	secret, err := proc.Prove(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	r.secret = secret
	cmd := r.asService()
	cmd.Stderr = r.log()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.process, r.ended = cmd.Process, false
	r.t.Cleanup(func() {
		if !r.ended {
			r.terminate()
		}
	})
	waitUntil(r.t, "the service listens", func() bool {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: r.path("socket"), Net: "unixpacket"})
		if err != nil {
			return false
		}
		r.conn = ipc.NewConn(c, ipc.RoleSupervisor, ipc.RoleRunner, nil)
		return true
	})
	r.t.Cleanup(func() { r.conn.Close() })
	r.hello()
}

// asService is the runner as a service.
func (r *rig) asService() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(r.service,
		"RUNNER_TEST_SOCKET="+r.path("socket"), "RUNNER_TEST_CONFIG="+r.conf, "RUNNER_TEST_STATE="+r.dir,
		"GORACE=atexit_sleep_ms=0", "PATH=/usr/bin:/bin",
	)
	return cmd
}

func (r *rig) terminate() {
	r.t.Helper()
	if err := r.process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	r.wait()
}

// connect replaces the connection by a new one. The service may take a moment
// to see the end of the old one.
func (r *rig) connect() {
	r.t.Helper()
	r.conn.Close()
	waitUntil(r.t, "the service lets the next supervisor in", func() bool {
		r.conn = dial(r.t, r.path("socket"))
		if err := r.conn.SetDeadline(time.Now().Add(limit)); err != nil {
			r.t.Fatal(err)
		}
		env, err := r.conn.Receive()
		_, hello := env.Message.(*ipc.RunnerHello)
		return err == nil && hello
	})
}

func TestServiceKeepsTheResultForTheNextSupervisor(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate")+"; exit 7")
	r.script("notify", "exit 0")
	r.serve()
	// The path of the message doesn't count in this form.
	conf := r.conf
	r.conf = "/no/such/file"
	if m := r.ready(); m.Error != "" || m.Digest == "" {
		t.Errorf("ready %+v", m)
	}
	r.conf = conf
	r.begin(r.newRun("failover"))
	r.line()
	r.connect()
	if m := r.ready(); m.Running != r.id(1) || len(m.Results) != 0 {
		t.Errorf("ready during the run %+v", m)
	}
	r.conn.Close()
	open()
	waitUntil(t, "the run has ended", func() bool {
		b, err := os.ReadFile(r.path("log"))
		return err == nil && strings.Contains(string(b), "a script has ended")
	})
	r.connect()
	m := r.ready()
	if m.Running != "" || len(m.Results) != 1 || m.Results[0].RunID != r.id(1) || m.Results[0].Exit != 7 {
		t.Errorf("ready after the run %+v", m)
	}
	if e := r.perform(r.newRun("notify")); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
}

// TestServiceOnDemandEndsWithItsLink: not while a script runs, which the next supervisor finds, and whose end the next
// process still knows.
func TestServiceOnDemandEndsWithItsLink(t *testing.T) {
	r := newRig(t, nil)
	r.service = []string{"RUNNER_TEST_ON_DEMAND=1"}
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate")+"; exit 7")
	r.script("notify", "exit 0")
	r.serve()
	r.ready()
	r.begin(r.newRun("failover"))
	r.line()
	r.connect()
	if m := r.ready(); m.Running != r.id(1) {
		t.Errorf("ready during the run %+v", m)
	}
	r.conn.Close()
	open()
	r.wait()
	r.serve()
	if m := r.ready(); m.Running != "" || len(m.Results) != 1 || m.Results[0].Exit != 7 {
		t.Errorf("ready of the next process %+v", m)
	}
	r.conn.Close()
	r.wait()
}

// TestServiceOnDemandLosesNoSupervisor: one that connects while the process leaves is served by it, or stays in the queue
// of the socket for the next process.
func TestServiceOnDemandLosesNoSupervisor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	next, err := l.File() // as the service manager holds the socket
	if err != nil {
		t.Fatal(err)
	}
	x := linked(t, newRig(t, nil))
	x.o = Options{Listener: l, OnDemand: true}
	x.accepted, x.served = make(chan *net.UnixConn), true
	defer x.wg.Wait()
	defer l.Close()
	x.wg.Go(func() { x.accept(l) })
	supervisor := x.link
	defer func() { x.link = supervisor }()
	leave := func() {
		t.Helper()
		x.link = nil
		if x.leaveUnneeded(); !x.leaving {
			t.Fatal("a process that nobody needs stays")
		}
		if c := <-x.accepted; c != nil {
			t.Fatal("a connection from nowhere")
		}
	}

	leave()
	x.link = supervisor // it came before the last accept
	if x.onAcceptEnd(); x.stopping {
		t.Fatal("it leaves a supervisor alone")
	}
	dial(t, path)
	c := <-x.accepted
	if c == nil {
		t.Fatal("it doesn't listen again")
	}
	c.Close()

	leave()
	dial(t, path)
	if x.onAcceptEnd(); !x.stopping {
		t.Fatal("a process that nobody needs stays")
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	after, err := ListenOn(next)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if err := after.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if c, err = after.AcceptUnix(); err != nil {
		t.Fatalf("the supervisor has not waited for the next process: %v", err)
	}
	c.Close()
}

// TestServiceOnDemandStaysWithWhatItAloneKnows: without a file the next process would not know of a run.
func TestServiceOnDemandStaysWithWhatItAloneKnows(t *testing.T) {
	x := &runner{o: Options{OnDemand: true}, served: true, record: &record{}}
	if !x.unneeded() {
		t.Error("it stays although it knows nothing")
	}
	if err := x.record.put(entry{ID: "x"}); err != nil || x.unneeded() {
		t.Errorf("it goes with a run that is in no file: %v", err)
	}
}

func TestServiceTakesOneSupervisorAtATime(t *testing.T) {
	r := newRig(t, nil)
	r.serve()
	second := dial(t, r.path("socket"))
	if err := second.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if env, err := second.Receive(); err == nil || os.IsTimeout(err) {
		t.Errorf("a second supervisor got %+v, %v", env.Message, err)
	}
	if m := r.ready(); m.Error != "" {
		t.Errorf("the first one got %+v", m)
	}
}

func TestServiceEndsWhenToldTo(t *testing.T) {
	r := newRig(t, settings{"failover_script_timeout": "300ms"})
	r.script("failover", "sleep 1000")
	r.serve()
	r.ready()
	pid := r.begin(r.newRun("failover"))
	if err := r.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := r.end(); !e.TimedOut || !proc.GroupEmpty(pid) {
		t.Errorf("ended with %+v", e)
	}
	r.wait()
	if _, err := os.Lstat(r.path("socket")); !os.IsNotExist(err) {
		t.Errorf("the socket file is left: %v", err)
	}
}

func TestServiceRefusesOtherUsers(t *testing.T) {
	r := &runner{}
	if !r.allowed(0) || !r.allowed(uint32(os.Getuid())) {
		t.Error("root or the own user is refused")
	}
	if r.allowed(54321) {
		t.Error("anybody is let in")
	}
	rig := newRig(t, settings{"user": "daemon"})
	c, err := config.LoadMain(rig.conf)
	if err != nil {
		t.Fatal(err)
	}
	r.hooks = hooks{c}
	cred, err := proc.CredentialOf("daemon")
	if err != nil {
		t.Fatal(err)
	}
	if !r.allowed(cred.Uid) {
		t.Error("the configured user is refused")
	}
	if r.allowed(54321) {
		t.Error("anybody is let in")
	}
}

// A service that starts while the configuration is being edited doesn't know yet whose connections to accept.
func TestServiceLetsPgagroalInOnceItsConfigurationIsMended(t *testing.T) {
	if os.Getuid() == 0 { // root takes no configuration that names another user, so somebody else plays this
		uid := uint32(unusedUser(t))
		cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Dir, cmd.Env = "/", []string{"GORACE=atexit_sleep_ms=0", "PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	rig := newRig(t, settings{"user": "daemon", "pool_mode": "transaction"}) // no key of ours
	r := &runner{o: Options{ConfigPath: rig.conf, StateDir: rig.dir}, log: slog.New(slog.DiscardHandler)}
	cred, err := proc.CredentialOf("daemon")
	if err != nil {
		t.Fatal(err)
	}
	if r.allowed(cred.Uid) {
		t.Error("a user is let in whom no configuration names")
	}
	rig.configure(settings{"user": "daemon"})
	if r.allowed(54321) {
		t.Error("anybody is let in")
	}
	if !r.allowed(cred.Uid) {
		t.Error("the configured user is still refused")
	}
	if r.record != nil {
		r.record.close()
	}
}

func TestServiceSocketIsForItsUserAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if other, err := Listen(path); err == nil {
		other.Close()
		t.Error("two listen at one path")
	}
	// A crash leaves the file behind.
	l.SetUnlinkOnClose(false)
	l.Close()
	l, err = Listen(path)
	if err != nil {
		t.Fatalf("an abandoned socket isn't replaced: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(path); err == nil {
		l.Close()
		t.Error("a file was replaced")
	}
}

func TestRecordSurvivesAndStaysBounded(t *testing.T) {
	dir := t.TempDir()
	ids, err := openRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2*maxRuns + 10 {
		e := entry{ID: "run-" + strconv.Itoa(i), Boot: "b"}
		for range 3 { // as of a real run
			if err := ids.put(e); err != nil {
				t.Fatal(err)
			}
			e.End = &ipc.RunEnded{RunID: e.ID, Exit: i % 3}
		}
	}
	want := slices.Clone(ids.runs)
	ids.close()
	// A machine that died in the middle of a line.
	f, err := os.OpenFile(filepath.Join(dir, recordName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("run-ha"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 { // the second time from the shortened file
		ids, err = openRecord(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, ids.runs); diff != "" || len(want) != maxRuns {
			t.Errorf("%d of %d runs:\n%s", len(ids.runs), maxRuns, diff)
		}
		ids.close()
	}
	if b, err := os.ReadFile(filepath.Join(dir, recordName)); err != nil || strings.Count(string(b), "\n") != maxRuns {
		t.Errorf("the file has %d lines, %v", strings.Count(string(b), "\n"), err)
	}
}

func TestRecordWithoutAPlaceLivesInMemory(t *testing.T) {
	for _, dir := range []string{"", "/no/such/directory"} {
		ids, err := openRecord(dir)
		if err == nil {
			t.Errorf("no error for %q", dir)
		}
		if err := ids.put(entry{ID: "x"}); err != nil || ids.find("x") == nil || ids.find("y") != nil {
			t.Errorf("%q: %v", dir, err)
		}
		ids.close()
	}
}

// Its log is another one than that of the supervisor.
func TestServiceTellsOfRunsInItsOwnLog(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", "exit 3")
	r.serve()
	r.ready()
	m := r.newRun("failover")
	r.perform(m)
	r.terminate()
	b, err := os.ReadFile(r.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a script runs", "a script has ended"} {
		if n := strings.Count(string(b), text); n != 1 {
			t.Errorf("%q is logged %d times", text, n)
		}
	}
}
