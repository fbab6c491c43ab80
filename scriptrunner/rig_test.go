package scriptrunner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// limit bounds every wait; it is never reached unless something is broken.
const limit = 60 * time.Second

// The test binary is the runner too: as a child with a link, or as the service
// when a variable names its socket.
func TestMain(m *testing.M) {
	if fd, role, ok := proc.Link(); ok && role == proc.RoleRunner {
		os.Exit(beRunner(func(o *Options) error {
			conn, err := ipc.FromFD(fd, ipc.RoleRunner, ipc.RoleSupervisor, o.Log)
			o.Conn = conn
			return err
		}))
	}
	if socket := os.Getenv("RUNNER_TEST_DIAL"); socket != "" {
		os.Exit(tryRunner(socket))
	}
	if os.Getenv("RUNNER_TEST_ROOT") != "" {
		// As sudo does: whoever has started it may not send it signals any more.
		if err := syscall.Setuid(0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(os.Getpid())
		time.Sleep(time.Hour)
	}
	if socket := os.Getenv("RUNNER_TEST_SOCKET"); socket != "" {
		os.Exit(beRunner(func(o *Options) (err error) {
			o.OnDemand = os.Getenv("RUNNER_TEST_ON_DEMAND") != ""
			o.ConfigPath, o.StateDir = os.Getenv("RUNNER_TEST_CONFIG"), os.Getenv("RUNNER_TEST_STATE")
			o.Listener, err = Listen(socket)
			return err
		}))
	}
	os.Exit(m.Run())
}

// tryRunner is what a script may try: it tells whether the runner talks to it.
func tryRunner(socket string) int {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(limit))
		_, err = ipc.NewConn(c, ipc.RoleSupervisor, ipc.RoleRunner, nil).Receive()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		fmt.Println("turned away")
		return 0
	}
	fmt.Println("let in, or never reached it:", err)
	return 1
}

func beRunner(setup func(*Options) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := Options{Build: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := setup(&o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	stop()
	if err := goleak.Find(goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreAnyFunction("os/signal.loop")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	return 0
}

// rig is a supervisor's side of a runner in a process of its own.
type rig struct {
	t       *testing.T
	dir     string
	conf    string
	conn    *ipc.Conn
	process *os.Process
	ended   bool
	runs    int
	secret  string              // of the supervisor, for a service
	user    *syscall.Credential // of the runner, nil for our own
	service []string            // more variables of a service
	lines   []*ipc.RunOutput    // of the last run
}

// settings of the configuration that a test changes.
type settings map[string]string

// The configured servers.
var servers = [][2]string{{"127.0.0.1", "5432"}, {"::1", "5433"}, {"db.example", "5434"}}

func newRig(t *testing.T, s settings) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.conf = filepath.Join(r.dir, "pgagroal.conf")
	r.configure(s)
	return r
}

// configure writes the configuration: scripts "failover" and "notify" in the
// directory of the rig unless s says otherwise.
func (r *rig) configure(s settings) {
	r.t.Helper()
	values := settings{
		"host": "127.0.0.1", "port": "2345", "unix_socket_dir": r.dir, "state_dir": r.dir,
		"failover": "on", "failover_script": r.path("failover"), "failover_notify_script": r.path("notify"),
		"failover_script_timeout": "60s", "failover_notify_timeout": "60s", "failover_kill_delay": "300ms",
	}
	for k, v := range s {
		values[k] = v
	}
	var b strings.Builder
	b.WriteString("[pgagroal]\n")
	for k, v := range values {
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	for i, srv := range servers {
		fmt.Fprintf(&b, "[server%d]\nhost = %s\nport = %s\n", i, srv[0], srv[1])
	}
	if err := os.WriteFile(r.conf, []byte(b.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// script writes a hook. Its lines come after the #! of a shell.
func (r *rig) script(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		r.t.Fatal(err)
	}
}

// spawn starts the runner as a child, with a link and a lock.
func (r *rig) spawn() {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleRunner, log)
	if err != nil {
		r.t.Fatal(err)
	}
	defer theirs.Close()
	lock, held, _, err := proc.Lock(r.dir)
	if err != nil || held {
		r.t.Fatal("lock of state_dir", held, err)
	}
	defer lock.Close()
	p, err := proc.Spawn(proc.Spec{
		Stderr: r.log(),
		Role:   proc.RoleRunner, Credential: r.user, Argv0: "pgagroal: scriptrunner", Files: []*os.File{theirs, lock},
		Env: []string{"GORACE=atexit_sleep_ms=0", "LANG=C", "PATH=/usr/bin:/bin", "SECRET=x"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.conn, r.process, r.ended = conn, p, false
	r.t.Cleanup(r.stop)
	r.hello()
}

// log is where the runner logs to, shown when the test fails.
func (r *rig) log() *os.File {
	r.t.Helper()
	f, err := os.OpenFile(r.path("log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		defer f.Close()
		if b, err := os.ReadFile(f.Name()); r.t.Failed() {
			r.t.Logf("log of the runner (%v):\n%s", err, b)
		}
	})
	return f
}

func (r *rig) stop() {
	r.conn.Close()
	if !r.ended {
		r.wait()
	}
}

// crash ends the runner as nothing else can.
func (r *rig) crash() {
	r.t.Helper()
	r.ended = true
	if err := r.process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.process.Wait(); err != nil {
		r.t.Fatal(err)
	}
}

// wait returns when the runner has ended by itself, without leaking.
func (r *rig) wait() {
	r.t.Helper()
	r.ended = true
	over := make(chan struct{})
	go func() {
		select {
		case <-over:
		case <-time.After(limit):
			_ = r.process.Kill()
		}
	}()
	st, err := r.process.Wait()
	close(over)
	if err != nil || !st.Success() {
		r.t.Errorf("the runner ended with %v, %v", st, err)
	}
}

func (r *rig) receive() ipc.Message {
	r.t.Helper()
	if err := r.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		r.t.Fatal(err)
	}
	env, err := r.conn.Receive()
	if err != nil {
		r.t.Fatalf("no message from the runner: %v", err)
	}
	return env.Message
}

func receive[M ipc.Message](r *rig) M {
	r.t.Helper()
	got := r.receive()
	m, ok := got.(M)
	if !ok {
		r.t.Fatalf("got %T %+v", got, got)
	}
	return m
}

func (r *rig) hello() {
	r.t.Helper()
	h := receive[*ipc.RunnerHello](r)
	if h.Version != ipc.Version || h.Build != "test" || h.PID != r.process.Pid {
		r.t.Errorf("hello %+v of process %d", h, r.process.Pid)
	}
}

// ready tells the runner to read its configuration.
func (r *rig) ready() *ipc.RunnerReady {
	r.t.Helper()
	r.send(&ipc.RunnerConfigure{Gen: 7, ConfigPath: r.conf, Secret: ipc.Secret(r.secret)})
	m := receive[*ipc.RunnerReady](r)
	if m.Gen != 7 {
		r.t.Errorf("generation %d", m.Gen)
	}
	r.conn.SetPhase(ipc.PhaseRunning)
	return m
}

func (r *rig) send(m ipc.Message) {
	r.t.Helper()
	if err := r.conn.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

// args are those of a failover from the first server to the second.
func args() []string {
	return []string{servers[0][0], servers[0][1], servers[1][0], servers[1][1]}
}

// id is that of the nth run. No other rig has it, because a runner finds the processes of its runs by it, among all
// processes of the machine.
func (r *rig) id(n int) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.dir))
	return fmt.Sprintf("run-%x-%d", h.Sum32(), n)
}

func (r *rig) newRun(hook string) *ipc.Run {
	r.runs++
	return &ipc.Run{RunID: r.id(r.runs), Hook: hook, Args: args(), Expires: in(limit)}
}

// in is a moment to come, as an expiry.
func in(d time.Duration) int64 { return (proc.SinceBoot() + d).Milliseconds() }

// begin starts a run and returns the id of its group.
func (r *rig) begin(m *ipc.Run) int {
	r.t.Helper()
	r.send(m)
	r.lines = nil
	receive[*ipc.RunStarting](r)
	return receive[*ipc.RunStarted](r).PGID
}

// line returns the next line of the script.
func (r *rig) line() string {
	r.t.Helper()
	m := receive[*ipc.RunOutput](r)
	r.lines = append(r.lines, m)
	return m.Line
}

// end returns the outcome, and keeps the lines before it.
func (r *rig) end() *ipc.RunEnded {
	r.t.Helper()
	for {
		switch m := r.receive().(type) {
		case *ipc.RunOutput:
			r.lines = append(r.lines, m)
		case *ipc.RunEnded:
			return m
		default:
			r.t.Fatalf("got %T %+v", m, m)
		}
	}
}

func (r *rig) perform(m *ipc.Run) *ipc.RunEnded {
	r.t.Helper()
	r.begin(m)
	return r.end()
}

func (r *rig) text() []string {
	var out []string
	for _, l := range r.lines {
		out = append(out, l.Line)
	}
	return out
}

// simple is a rig with one script for both hooks, running and configured.
func simple(t *testing.T, s settings, script string) *rig {
	t.Helper()
	r := newRig(t, s)
	r.script("failover", script)
	r.script("notify", script)
	r.spawn()
	r.ready()
	return r
}

// refused expects that a run is not started at all.
func (r *rig) refused(m *ipc.Run, why string) {
	r.t.Helper()
	r.send(m)
	e := receive[*ipc.RunEnded](r)
	if !strings.Contains(e.Refused, why) || e.Refused == "" || e.Exit != -1 || e.RunID != m.RunID {
		r.t.Errorf("run %+v ended with %+v; expected a refusal because of %q", m, e, why)
	}
}

// gate is a named pipe that holds a script until the test opens it.
func (r *rig) gate(name string) func() {
	r.t.Helper()
	if err := syscall.Mkfifo(r.path(name), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		f, err := os.OpenFile(r.path(name), os.O_WRONLY, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.WriteString(f, "go\n"); err != nil {
			r.t.Fatal(err)
		}
	}
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// killAtEnd ends a process that a script was allowed to leave behind.
func killAtEnd(t *testing.T, pid int) {
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
}

func dial(t *testing.T, socket string) *ipc.Conn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	conn := ipc.NewConn(c, ipc.RoleSupervisor, ipc.RoleRunner, nil)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if kb, ok := strings.CutPrefix(in.Text(), "VmHWM:"); ok {
			return number(t, strings.TrimSuffix(kb, "kB")) << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
