package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits of waits that are short unless the machine hangs.
const (
	startLimit = 20 * time.Second
	stopLimit  = 10 * time.Second
)

// pooler is what clients connect to in one turn: a process, or nothing if they connect
// to PostgreSQL itself.
type pooler struct {
	target target
	port   int
	cmd    *exec.Cmd // nil: direct
	ended  chan struct{}
	dir    string
	log    string // path
	// metrics and console are ports of pgagroal, 0 for none; release gives back those that were
	// taken for it, nil for none.
	metrics, console int
	release          []func()
}

// startPooler starts a target's process in an empty directory and returns when a client
// can log in. The caller stops it.
func (r *rig) startPooler(ctx context.Context, t target, w workload) (*pooler, error) {
	if t.kind == direct {
		return &pooler{target: t, port: r.node().Port}, nil
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &pooler{target: t, port: port, dir: r.path("pooler"), log: r.path("pooler", "log")}
	argv, err := r.configure(ctx, p, w)
	if err == nil {
		err = r.launch(p, w, argv)
	}
	if err == nil {
		err = p.awaitLogin(ctx, w)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w\n%s", t.name(), err, p.logTail()), p.stop())
	}
	return p, nil
}

// configure writes a pooler's files and returns its command line.
func (r *rig) configure(ctx context.Context, p *pooler, w workload) ([]string, error) {
	if err := os.RemoveAll(p.dir); err != nil {
		return nil, fmt.Errorf("clean directory: %w", err)
	}
	if err := r.makeDir("pooler"); err != nil {
		return nil, err
	}
	switch p.target.kind {
	case pgagroal, before:
		return r.configurePgagroal(ctx, p, w)
	case haproxy:
		return r.configureHAProxy(p, w)
	case relay:
		return []string{filepath.Join(r.programs, benchProgram), relayCommand, p.addr(), fmt.Sprintf("127.0.0.1:%d", r.serverPort()), p.target.loop}, nil
	}
	return r.configurePgBouncer(p, w)
}

// backends is how many connections to the server a pooler may have.
func (w workload) backends() int {
	if w.limit > 0 {
		return w.limit
	}
	return 100
}

// user returns the user that clients log in as.
func (w workload) user() string {
	if w.login == loginScram || w.login == loginPassword {
		return scramUser
	}
	return account
}

// command prepares a program that runs as the poolers' user in the pooler's directory.
// It runs in a session of its own, so that Ctrl-C at a terminal reaches only this
// program, which ends the others in order.
func (r *rig) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = r.path("pooler")
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + cmd.Dir, "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: r.owner}
	return cmd
}

func (r *rig) launch(p *pooler, w workload, argv []string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	one, _ := r.processors()
	if slices.ContainsFunc(w.targets, func(t target) bool { return t.workers > 1 }) {
		one = "" // two workers on one CPU would show nothing, and one on another CPU could not be compared
	}
	p.cmd = r.command(context.Background(), pinned(one, argv)) // stop ends it
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { // ends with the process, which stop sees to
		defer close(ended)
		_ = cmd.Wait()
	}(p.cmd, p.ended)
	return nil
}

// awaitLogin returns when a client can log in. In the case with passwords it is enough
// to be asked for one: answering would need a SCRAM client.
func (p *pooler) awaitLogin(ctx context.Context, w workload) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := login(ctx, p.addr(), w.user(), nil)
		if err == nil {
			return c.close()
		}
		if w.login != "" && errors.Is(err, errAsked) {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for a login: %w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (p *pooler) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// usage returns what the pooler's processes have used so far; nothing for direct.
func (p *pooler) usage() (usage, error) {
	if p.cmd == nil {
		return usage{}, nil
	}
	return treeUsage(p.cmd.Process.Pid)
}

// during returns the processor time that the pooler uses while f runs.
func (p *pooler) during(f func() error) (time.Duration, error) {
	before, err := p.usage()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := p.usage()
	if err != nil {
		return 0, err
	}
	return after.since(before)
}

// stop ends the pooler and all its processes.
func (p *pooler) stop() error {
	defer p.giveBack()
	if p.cmd == nil {
		return nil
	}
	before, _ := treeUsage(p.cmd.Process.Pid) // an error means that it has ended
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // PgBouncer then ends at once
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	for _, pid := range slices.Backward(before.pids) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.ended
	return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.target.name(), stopLimit)
}

// giveBack gives back the ports that were taken for it.
func (p *pooler) giveBack() {
	for _, release := range p.release {
		release()
	}
	p.release = nil
}

// logTail is the end of what the pooler has logged.
func (p *pooler) logTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := strings.SplitAfter(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "")
}

// freePort returns a port that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
