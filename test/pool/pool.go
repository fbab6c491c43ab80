package pool

import (
	"bytes"
	"flag"
	"fmt"
	"io"
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

// Generous is the time limit for something that must happen; it measures nothing.
const Generous = time.Minute

// NetnsPort is the port of a pool in a network namespace of its own.
const NetnsPort = 6432

// Server is one server section.
type Server struct {
	Name, Host string
	Port       int
	More       map[string]string
}

// Nodes returns server sections for the nodes of a cluster: n1, n2 and so on.
func Nodes(c *pgtest.Cluster) []Server {
	var out []Server
	for _, n := range c.Nodes {
		out = append(out, Server{Name: n.Name, Host: n.Host, Port: n.Port})
	}
	return out
}

// Setup says how pgagroal is configured. Everything else has the defaults of the
// harness.
type Setup struct {
	Servers []Server
	// Keys of the main section; an empty value removes a default of the harness.
	Keys map[string]string
	// HBA and Databases replace the whole files; nil HBA trusts everybody.
	HBA, Databases string
	// Referred are files beside the HBA file, by name.
	Referred map[string]string
	// Users are passwords by name, for the users file.
	Users map[string]string
	// Superuser is "name:password" for the superuser file, empty for none.
	Superuser string
	// Netns is the network namespace of pgagroal, which gets NetnsPort there. Nil is
	// the test's own network, and a reserved port.
	Netns *pgtest.Netns
	// Env is added to the environment.
	Env []string
	// Before runs just before the start, with everything in place.
	Before func(p *Pool)
}

// Pool is a running pgagroal with its private directory.
type Pool struct {
	T     testing.TB // which it belongs to
	Dir   string
	Port  int
	Cmd   *exec.Cmd // the supervisor, nil before the first start
	log   *logBuffer
	done  chan struct{}
	keys  map[string]string
	netns *pgtest.Netns
	// Adjust changes the command of the daemon before it is started.
	Adjust func(*exec.Cmd)
	// AsRoot starts it with the privileges of the test, which user gives up.
	AsRoot bool
	// Wrap is a command that starts pgagroal with exec.
	Wrap []string
	// logged are the goroutines that copy the log. The log before began is that of
	// earlier runs.
	logged sync.WaitGroup
	began  int
}

// keep runs the tests of the session pipeline in another mode of it.
var keep = flag.String("keep", "", "run each pool that isn't of another pipeline with pipeline = session and this failover_keep_sessions, unless the test sets that")

// Prepare writes the configuration of a pool without starting it.
func Prepare(t testing.TB, s Setup) *Pool {
	t.Helper()
	p := &Pool{T: t, Dir: privateDir(t), Port: NetnsPort, netns: s.Netns, log: &logBuffer{}}
	if s.Netns == nil {
		p.Port = pgtest.Port(t)
	}
	for _, d := range []string{"run", "state", "hooks"} {
		if err := os.Mkdir(filepath.Join(p.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		Give(t, filepath.Join(p.Dir, d))
	}
	p.keys = map[string]string{
		"host": "127.0.0.1", "port": strconv.Itoa(p.Port), "unix_socket_dir": filepath.Join(p.Dir, "run"),
		"state_dir": filepath.Join(p.Dir, "state"), "log_level": "debug", "log_type": "console",
		"log_connections": "on", "log_disconnections": "on", "max_connections": "50", "workers": "2",
		"authentication_timeout": "60s", // no login fails only because the machine is busy
	}
	for k, v := range s.Keys {
		p.keys[k] = v
		if v == "" {
			delete(p.keys, k)
		}
	}
	if pipeline := p.keys["pipeline"]; *keep != "" && (pipeline == "" || pipeline == "auto" || pipeline == "session") {
		p.keys["pipeline"] = "session"
		if p.keys["failover_keep_sessions"] == "" {
			p.keys["failover_keep_sessions"] = *keep
		}
	}
	p.writeConfig(s)
	return p
}

// Path returns the path of a file in the pool's directory.
func (p *Pool) Path(name string) string { return filepath.Join(p.Dir, name) }

// Command returns one of pgagroal's programs, to be run as the serving user, with the
// pool's directory as its home.
func (p *Pool) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(Program(name), args...)
	cmd.Dir = p.Dir
	cmd.Env = []string{"HOME=" + p.Dir, "PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1 atexit_sleep_ms=0"}
	if c := ServingUser(p.T); c != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	} else {
		cmd.Env = append(cmd.Env, "PGAGROAL_CORES=on") // tests look into /proc, which root may do anyway
	}
	return cmd
}

// Start starts pgagroal and waits until it accepts clients.
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
	p.T.Helper()
	p.Begin(env...)
	p.WaitReady()
}

// Begin is Run without waiting for anything.
func (p *Pool) Begin(env ...string) {
	p.T.Helper()
	p.launch(env...)
	p.T.Cleanup(func() {
		p.Kill()
		p.waitLogged()
		if p.T.Failed() || testing.Verbose() {
			p.T.Logf("log of pgagroal:\n%s", p.log)
		}
		if strings.Contains(p.log.String(), "DATA RACE") {
			p.T.Errorf("data race:\n%s", p.log)
		}
	})
}

func (p *Pool) launch(env ...string) {
	p.T.Helper()
	p.Cmd = p.Command("pgagroal", "-D", p.Dir)
	if len(p.Wrap) > 0 {
		p.Cmd.Path, p.Cmd.Args = p.Wrap[0], slices.Concat(p.Wrap, p.Cmd.Args)
	}
	p.Cmd.Env = append(p.Cmd.Env, env...)
	if p.AsRoot {
		p.Cmd.SysProcAttr = nil
	}
	// An own pipe, because a script may hold it open for longer than pgagroal lives.
	r, w, err := os.Pipe()
	if err != nil {
		p.T.Fatal(err)
	}
	p.began = len(p.log.String())
	p.Cmd.Stdout, p.Cmd.Stderr = w, w
	if p.Adjust != nil {
		p.Adjust(p.Cmd)
	}
	if p.netns != nil {
		err = p.netns.Do(p.Cmd.Start)
	} else {
		err = p.Cmd.Start()
	}
	w.Close()
	if err != nil {
		r.Close()
		p.T.Fatal(err)
	}
	p.logged.Go(func() {
		defer r.Close()
		_, _ = io.Copy(p.log, r)
	})
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait()
	}(p.Cmd, p.done)
}

// waitLogged waits until nobody can write to the log any more.
func (p *Pool) waitLogged() {
	p.T.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.logged.Wait()
	}()
	select {
	case <-over:
	case <-time.After(Generous):
		p.T.Errorf("something of pgagroal lives on\n%s", p.log)
	}
}

// WaitReady waits until the control socket answers that pgagroal is running, with all
// its workers.
func (p *Pool) WaitReady() {
	p.T.Helper()
	socket := filepath.Join(p.Dir, "run", fmt.Sprintf(".s.pgagroal.%d", p.Port))
	pgtest.WaitUntil(p.T, 2*Generous, "pgagroal to be ready", func() bool {
		select {
		case <-p.done:
			p.T.Fatalf("pgagroal has ended: %v\n%s", p.Cmd.ProcessState, p.log)
		default:
		}
		if _, err := os.Stat(socket); err != nil {
			return false // so pgagroal-cli need not be started
		}
		_, _, code := p.CLI("status")
		return code == 0 && p.allWorkers()
	}, p.log.String)
}

// allWorkers reports whether each worker is ready, if the log is on the console.
func (p *Pool) allWorkers() bool {
	n, err := strconv.Atoi(p.keys["workers"])
	Must(p.T, err)
	return p.keys["log_type"] != "console" || strings.Count(p.log.String()[p.began:], "worker is ready") >= n
}

// Kill ends the supervisor with SIGKILL if it still runs, and waits for it.
func (p *Pool) Kill() { p.end(syscall.SIGKILL) }

// Stop ends it with SIGTERM.
func (p *Pool) Stop() { p.end(syscall.SIGTERM) }

func (p *Pool) end(sig syscall.Signal) {
	p.T.Helper()
	if p.Cmd == nil || p.Cmd.Process == nil {
		return
	}
	_ = p.Cmd.Process.Signal(sig)
	p.WaitEnd()
}

// WaitEnd waits for the end of the supervisor and returns its exit code.
func (p *Pool) WaitEnd() int {
	p.T.Helper()
	select {
	case <-p.done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Generous):
		_ = p.Cmd.Process.Kill()
		p.T.Fatalf("pgagroal doesn't end\n%s", p.log)
		return -1
	}
}

// PID is the supervisor's.
func (p *Pool) PID() int { return p.Cmd.Process.Pid }

// Restart starts the daemon again after it has ended.
func (p *Pool) Restart(env ...string) {
	p.T.Helper()
	p.launch(env...)
	p.WaitReady()
}

// Log returns what the daemon has written so far.
func (p *Pool) Log() string { return p.log.String() }

// UserOf is the account that scripts run as.
func UserOf(t testing.TB) *user.User {
	t.Helper()
	u, err := user.Current()
	if ServingUser(t) != nil {
		u, err = user.Lookup("postgres")
	}
	Must(t, err)
	return u
}

// WontStart runs a program that must refuse to start, and returns its output.
func WontStart(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	Must(t, cmd.Start())
	kill := time.AfterFunc(Generous, func() { _ = cmd.Process.Kill() }) // it has started
	defer kill.Stop()
	_ = cmd.Wait() // the exit code says more
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1; it says\n%s", code, &out)
	}
	return out.String()
}

// DropKey removes a key from the main section of a prepared pool.
func (p *Pool) DropKey(key string) {
	p.T.Helper()
	data, err := os.ReadFile(p.Path("pgagroal.conf"))
	if err != nil {
		p.T.Fatal(err)
	}
	var kept []string
	section := ""
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if name, _, ok := strings.Cut(line, " = "); ok && name == key && section == "[pgagroal]" {
			continue
		}
		kept = append(kept, line)
	}
	WriteFile(p.T, p.Path("pgagroal.conf"), strings.Join(kept, "\n"), 0o644)
}
