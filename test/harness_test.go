package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// generous bounds a wait for something that must happen; it is no measurement.
const generous = 30 * time.Second

// servingUser is the user that pgagroal and its scripts run as: postgres when
// the tests run as root, ourselves otherwise.
func servingUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("the tests run as root and need the user postgres: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// give makes a path the serving user's.
func give(t testing.TB, path string) {
	t.Helper()
	if c := servingUser(t); c != nil {
		if err := os.Lchown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// privateDir returns a short directory that the serving user owns.
func privateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pga")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	give(t, dir)
	return dir
}

// writeFile writes a file that the serving user owns.
func writeFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	give(t, path)
}

// Server is one server section.
type Server struct {
	Name, Host string
	Port       int
	More       map[string]string
}

// nodes makes server sections of the nodes of a cluster: n1, n2 and so on.
func nodes(c *pgtest.Cluster) []Server {
	var out []Server
	for _, n := range c.Nodes {
		out = append(out, Server{Name: n.Name, Host: n.Host, Port: n.Port})
	}
	return out
}

// Setup says how pgagroal is to be configured; what it doesn't say has the
// default of the harness, which is short times for failover.
type Setup struct {
	Servers []Server
	// Keys of the main section; an empty value removes a default of ours.
	Keys map[string]string
	// HBA and Databases replace the whole files; nil HBA trusts everybody.
	HBA, Databases string
	// Users are passwords by name, for the users file.
	Users map[string]string
	// Superuser is "name:password" for the superuser file, empty for none.
	Superuser string
	// Home holds .pgagroal/master.key; made when Users is set.
	Env []string
	// Before runs just before the start, with everything in place.
	Before func(p *Pool)
}

// Pool is a running pgagroal with its private directory.
type Pool struct {
	t    testing.TB
	Dir  string
	Port int
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
	keys map[string]string
	// asRoot starts it with the privileges of the test, which user gives up.
	asRoot bool
	// wrap is a command that executes pgagroal in its own place.
	wrap []string
	// logged are the copiers of the log, of which what is before began is that of
	// earlier runs.
	logged sync.WaitGroup
	began  int
}

// logBuffer collects what a process writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Prepare writes the configuration of a pool without starting it.
func Prepare(t testing.TB, s Setup) *Pool {
	t.Helper()
	p := &Pool{t: t, Dir: privateDir(t), Port: pgtest.Port(t), log: &logBuffer{}}
	for _, d := range []string{"run", "state", "hooks"} {
		if err := os.Mkdir(filepath.Join(p.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		give(t, filepath.Join(p.Dir, d))
	}
	p.keys = map[string]string{
		"host": "127.0.0.1", "port": strconv.Itoa(p.Port), "unix_socket_dir": filepath.Join(p.Dir, "run"),
		"state_dir": filepath.Join(p.Dir, "state"), "log_level": "debug", "log_type": "console",
		"log_connections": "on", "log_disconnections": "on", "max_connections": "50", "workers": "2",
	}
	for k, v := range s.Keys {
		p.keys[k] = v
		if v == "" {
			delete(p.keys, k)
		}
	}
	p.writeConfig(s)
	return p
}

func (p *Pool) writeConfig(s Setup) {
	var b strings.Builder
	b.WriteString("[pgagroal]\n")
	for k, v := range p.keys {
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	for _, srv := range s.Servers {
		fmt.Fprintf(&b, "\n[%s]\nhost = %s\nport = %d\n", srv.Name, srv.Host, srv.Port)
		for k, v := range srv.More {
			fmt.Fprintf(&b, "%s = %s\n", k, v)
		}
	}
	writeFile(p.t, p.path("pgagroal.conf"), b.String(), 0o644)
	hba := s.HBA
	if hba == "" {
		hba = "host all all all trust\n"
	}
	writeFile(p.t, p.path("pgagroal_hba.conf"), hba, 0o644)
	writeFile(p.t, p.path("pgagroal_databases.conf"), s.Databases, 0o644)
	p.writeUsers(s)
}

// writeUsers makes the credential files with pgagroal-admin, as a user would.
func (p *Pool) writeUsers(s Setup) {
	if len(s.Users) == 0 && s.Superuser == "" {
		return
	}
	p.admin("master-key", "-P", "a master key for tests")
	for name, password := range s.Users {
		p.admin("-f", p.path("pgagroal_users.conf"), "-U", name, "-P", password, "user", "add")
	}
	if name, password, ok := strings.Cut(s.Superuser, ":"); ok {
		p.admin("-f", p.path("pgagroal_superuser.conf"), "-U", name, "-P", password, "user", "add")
	}
}

func (p *Pool) admin(args ...string) {
	p.t.Helper()
	if out, err := p.Command("pgagroal-admin", args...).CombinedOutput(); err != nil {
		p.t.Fatalf("pgagroal-admin %v: %v\n%s", args, err, out)
	}
}

func (p *Pool) path(name string) string { return filepath.Join(p.Dir, name) }

// Command is a program of ours, as the serving user, at home in the pool's
// directory.
func (p *Pool) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...)
	cmd.Dir = p.Dir
	cmd.Env = []string{"HOME=" + p.Dir, "PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1 atexit_sleep_ms=0"}
	if c := servingUser(p.t); c != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	}
	return cmd
}

// Start starts pgagroal and waits until it takes clients.
func Start(t testing.TB, s Setup) *Pool {
	t.Helper()
	p := Prepare(t, s)
	if s.Before != nil {
		s.Before(p)
	}
	p.Run(s.Env...)
	return p
}

// Run starts the daemon of a prepared pool, and at the end of the test stops it.
func (p *Pool) Run(env ...string) {
	p.t.Helper()
	p.begin(env...)
	p.WaitReady()
}

// begin is Run without waiting for anything.
func (p *Pool) begin(env ...string) {
	p.t.Helper()
	p.launch(env...)
	p.t.Cleanup(func() {
		p.Kill()
		p.waitLogged()
		if p.t.Failed() || testing.Verbose() {
			p.t.Logf("log of pgagroal:\n%s", p.log)
		}
		if strings.Contains(p.log.String(), "DATA RACE") {
			p.t.Errorf("data race:\n%s", p.log)
		}
	})
}

func (p *Pool) launch(env ...string) {
	p.t.Helper()
	p.cmd = p.Command("pgagroal", "-D", p.Dir)
	if len(p.wrap) > 0 {
		p.cmd.Path, p.cmd.Args = p.wrap[0], slices.Concat(p.wrap, p.cmd.Args)
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	if p.asRoot {
		p.cmd.SysProcAttr = nil
	}
	// A pipe of ours: a script may hold it open for longer than pgagroal lives.
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.began = len(p.log.String())
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		p.t.Fatal(err)
	}
	p.logged.Go(func() {
		defer r.Close()
		_, _ = io.Copy(p.log, r)
	})
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait()
	}(p.cmd, p.done)
}

// waitLogged waits until nobody can write to the log any more.
func (p *Pool) waitLogged() {
	p.t.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.logged.Wait()
	}()
	select {
	case <-over:
	case <-time.After(generous):
		p.t.Errorf("something of pgagroal lives on\n%s", p.log)
	}
}

// WaitReady waits until the control socket says that it runs, with all its workers.
func (p *Pool) WaitReady() {
	p.t.Helper()
	socket := filepath.Join(p.Dir, "run", fmt.Sprintf(".s.pgagroal.%d", p.Port))
	pgtest.WaitUntil(p.t, 2*generous, "pgagroal to be ready", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("pgagroal has ended: %v\n%s", p.cmd.ProcessState, p.log)
		default:
		}
		if _, err := os.Stat(socket); err != nil {
			return false // so there is no need to start a program that says so
		}
		_, _, code := p.CLI("status")
		return code == 0 && p.allWorkers()
	}, p.log.String)
}

// allWorkers reports whether each worker is ready, as far as the log is on the
// console.
func (p *Pool) allWorkers() bool {
	n, err := strconv.Atoi(p.keys["workers"])
	must(p.t, err)
	return p.keys["log_type"] != "console" || strings.Count(p.log.String()[p.began:], "worker is ready") >= n
}

// Kill ends the supervisor with SIGKILL if it still runs, and waits for it.
func (p *Pool) Kill() { p.end(syscall.SIGKILL) }

// Stop ends it with SIGTERM.
func (p *Pool) Stop() { p.end(syscall.SIGTERM) }

func (p *Pool) end(sig syscall.Signal) {
	p.t.Helper()
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	p.WaitEnd()
}

// WaitEnd waits for the end of the supervisor and returns its exit code.
func (p *Pool) WaitEnd() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(generous):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("pgagroal doesn't end\n%s", p.log)
		return -1
	}
}

// PID is the supervisor's.
func (p *Pool) PID() int { return p.cmd.Process.Pid }

// Restart starts the daemon again after it has ended.
func (p *Pool) Restart(env ...string) {
	p.t.Helper()
	p.launch(env...)
	p.WaitReady()
}

// Log returns what the daemon has written so far.
func (p *Pool) Log() string { return p.log.String() }

// CLI runs pgagroal-cli against the pool.
func (p *Pool) CLI(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := p.Command("pgagroal-cli", append([]string{"-c", p.path("pgagroal.conf")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// JSON runs a command of pgagroal-cli and returns its Response.
func (p *Pool) JSON(args ...string) map[string]any {
	p.t.Helper()
	out, errs, code := p.CLI(append(args, "--format", "json")...)
	var doc struct{ Response map[string]any }
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		p.t.Fatalf("pgagroal-cli %v: exit %d, %v\n%s%s", args, code, err, out, errs)
	}
	return doc.Response
}

// State returns the state of a server in the words of the operator, qualifier
// included, as `status` shows it.
func (p *Pool) State(server string) string {
	p.t.Helper()
	servers, _ := p.JSON("status")["Servers"].(map[string]any)
	s, _ := servers[server].(map[string]any)
	state, _ := s["State"].(string)
	if q, _ := s["Qualifier"].(string); q != "" {
		return state + " (" + q + ")"
	}
	return state
}

// WaitState waits until a server is in a state.
func (p *Pool) WaitState(server, want string) {
	p.t.Helper()
	pgtest.WaitUntil(p.t, generous, server+" to be "+want, func() bool { return p.State(server) == want },
		func() string { return p.State(server) }, p.Log)
}

// WaitLog waits for a text in the log.
func (p *Pool) WaitLog(text string) {
	p.t.Helper()
	pgtest.WaitUntil(p.t, generous, fmt.Sprintf("%q in the log", text), func() bool {
		return strings.Contains(p.Log(), text)
	}, p.Log)
}

// Config is what a client needs to connect over TCP.
func (p *Pool) Config(user, password, database string) pgtest.ClientConfig {
	return pgtest.ClientConfig{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)), User: user, Password: password, Database: database}
}

// Connect connects as postgres and closes at the end of the test.
func (p *Pool) Connect() *pgtest.Client {
	p.t.Helper()
	return p.ConnectAs(p.Config("postgres", "", "postgres"))
}

// ConnectAs connects with a configuration and closes at the end of the test.
func (p *Pool) ConnectAs(cfg pgtest.ClientConfig) *pgtest.Client {
	p.t.Helper()
	c, err := p.try(cfg)
	if err != nil {
		p.t.Fatalf("connect through the pool: %v\n%s", err, p.Log())
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

func (p *Pool) try(cfg pgtest.ClientConfig) (*pgtest.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	return pgtest.Connect(ctx, cfg)
}

// query runs one query and returns its rows as text.
func query(c *pgtest.Client, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	res, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return res.Rows, nil
}

// mustQuery runs one query and returns its rows as text.
func mustQuery(t testing.TB, c *pgtest.Client, sql string) [][]string {
	t.Helper()
	rows, err := query(c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// Workers returns the process ids of the workers.
func (p *Pool) Workers() []int { return p.children("worker") }

// Runner returns the process id of the script runner, 0 for none.
func (p *Pool) Runner() int {
	if ids := p.children("scriptrunner"); len(ids) > 0 {
		return ids[0]
	}
	return 0
}

func titled(pid int, role string) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.HasPrefix(string(cmdline), "pgagroal: "+role)
}

// children finds the supervisor's children by the title that ps shows.
func (p *Pool) children(role string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.t.Fatal(err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !titled(pid, role) {
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
