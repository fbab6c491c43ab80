package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
const generous = time.Minute

const poolPort = 6432

// pool is a running pgagroal in a namespace of its own. Clients and pgagroal-cli
// reach it by its Unix sockets, which no network fault touches.
type pool struct {
	t    testing.TB
	dir  string
	host *host
	cmd  *exec.Cmd
	log  logBuffer
	done chan struct{}
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

// postgres is the user that pgagroal and its scripts run as.
func postgres(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	must(t, err)
	uid, err := strconv.Atoi(u.Uid)
	must(t, err)
	gid, err := strconv.Atoi(u.Gid)
	must(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// preparePool makes the private directory of a pool.
func preparePool(t testing.TB, h *host) *pool {
	t.Helper()
	dir, err := os.MkdirTemp("", "pga")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pool{t: t, dir: dir, host: h, done: make(chan struct{})}
	p.give(dir)
	for _, d := range []string{"run", "state", "hooks"} {
		must(t, os.Mkdir(p.path(d), 0o755))
		p.give(p.path(d))
	}
	p.file("pgagroal_hba.conf", "host all all all trust\n", 0o644)
	p.file("pgagroal_databases.conf", "", 0o644)
	return p
}

func (p *pool) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *pool) give(path string) {
	p.t.Helper()
	c := postgres(p.t)
	must(p.t, os.Lchown(path, int(c.Uid), int(c.Gid)))
}

func (p *pool) file(name, text string, mode os.FileMode) {
	p.t.Helper()
	must(p.t, os.WriteFile(p.path(name), []byte(text), mode))
	must(p.t, os.Chmod(p.path(name), mode))
	p.give(p.path(name))
}

// configure writes pgagroal.conf for these servers, addresses by name.
func (p *pool) configure(keys, servers map[string]string) {
	p.t.Helper()
	all := map[string]string{
		"host": "127.0.0.1", "port": strconv.Itoa(poolPort), "unix_socket_dir": p.path("run"), "state_dir": p.path("state"),
		"log_level": "debug", "log_type": "console", "max_connections": "20", "workers": "2", "pipeline": "transaction",
		"failover": "on", "failover_script": p.path("hooks", "failover.sh"), "failover_notify_script": p.path("hooks", "notify.sh"),
		"health_check": "on", "health_check_user": "postgres",
	}
	maps.Copy(all, keys)
	var b strings.Builder
	b.WriteString("[pgagroal]\n")
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", k, all[k])
	}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		fmt.Fprintf(&b, "\n[%s]\nhost = %s\nport = 5432\n", name, servers[name])
	}
	p.file("pgagroal.conf", b.String(), 0o644)
}

// setKey puts a key into the main section of a configuration.
func (p *pool) setKey(key, value string) {
	p.t.Helper()
	text, err := os.ReadFile(p.path("pgagroal.conf"))
	must(p.t, err)
	p.file("pgagroal.conf", strings.Replace(string(text), "[pgagroal]\n", "[pgagroal]\n"+key+" = "+value+"\n", 1), 0o644)
}

// hook writes a script that notes the time and its arguments, and then does what body says.
func (p *pool) hook(name, body string) {
	p.t.Helper()
	p.file("hooks/"+name, fmt.Sprintf("#!/bin/sh\necho \"$(date +%%s%%N) $*\" >>%s\n%s\n", p.path("hooks", name+".runs"), body), 0o755)
}

// hookRun is one run of a hook.
type hookRun struct {
	at   time.Time
	args string
}

// runs returns the runs of a hook so far.
func (p *pool) runs(name string) []hookRun {
	p.t.Helper()
	data, err := os.ReadFile(p.path("hooks", name+".runs"))
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	var out []hookRun
	for line := range strings.Lines(string(data)) {
		at, args, whole := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if !whole || err != nil {
			p.t.Fatalf("%s noted %q", name, line)
		}
		out = append(out, hookRun{time.Unix(0, ns), args})
	}
	return out
}

// command is a program of ours as its user, at home in the pool's directory.
func (p *pool) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(program(name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1 atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: postgres(p.t)}
	return cmd
}

// start starts the daemon and waits until it takes commands. It is killed at the
// end of the test.
func (p *pool) start(prepare func(*exec.Cmd)) {
	p.t.Helper()
	p.cmd = p.command("pgagroal", "-D", p.dir)
	if prepare != nil {
		prepare(p.cmd)
	}
	r, w, err := os.Pipe() // a script may hold it open for longer than pgagroal lives
	must(p.t, err)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.host.ns.Do(p.cmd.Start)
	w.Close()
	if err != nil {
		r.Close()
		p.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		defer r.Close()
		_, _ = io.Copy(&p.log, r)
		_ = p.cmd.Wait()
	}()
	p.t.Cleanup(p.kill)
	pgtest.WaitUntil(p.t, generous, "pgagroal to be ready", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("pgagroal has ended:\n%s", p.log.String())
		default:
		}
		_, err := p.ask("status")
		return err == nil
	}, p.log.String)
}

func (p *pool) kill() {
	_ = p.cmd.Process.Kill()
	select {
	case <-p.done:
	case <-time.After(generous):
		p.t.Error("something of pgagroal lives on")
	}
	if p.t.Failed() {
		p.t.Logf("log of pgagroal:\n%s", p.log.String())
	}
	if strings.Contains(p.log.String(), "DATA RACE") {
		p.t.Errorf("data race:\n%s", p.log.String())
	}
}

// ask runs a command of pgagroal-cli and returns its Response.
func (p *pool) ask(args ...string) (map[string]any, error) {
	cmd := p.command("pgagroal-cli", slices.Concat([]string{"-c", p.path("pgagroal.conf")}, args, []string{"--format", "json"})...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pgagroal-cli %v: %w", args, err)
	}
	var doc struct{ Response map[string]any }
	err = json.Unmarshal(out, &doc)
	return doc.Response, err
}

// config is how clients connect.
func (p *pool) config() pgtest.ClientConfig {
	return pgtest.ClientConfig{Network: "unix", Addr: p.path("run", fmt.Sprintf(".s.PGSQL.%d", poolPort)), User: "postgres", Database: "postgres"}
}
