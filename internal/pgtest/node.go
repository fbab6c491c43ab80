package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nodeConf is the file beside a data directory that holds the node's settings.
const nodeConf = "node.conf"

// maxSocketPath is what sun_path of sockaddr_un holds, without the final zero.
const maxSocketPath = 107

// Node is one server of a cluster.
type Node struct {
	Name      string // also cluster_name and, so, application_name of its walreceiver
	Host      string
	Port      int
	DataDir   string
	SocketDir string
	LogFile   string

	cluster  *Cluster
	netns    *Netns        // nil: the caller's
	reserved *reservedPort // nil in a namespace of its own
	settings map[string]string
	exited   chan error // closed when the postmaster that we started was reaped; nil: none
}

func newNode(c *Cluster, name string, place Place) (*Node, error) {
	base := filepath.Join(c.Dir, name)
	n := &Node{
		Name: name, Host: place.Addr, DataDir: filepath.Join(base, "data"), SocketDir: base,
		LogFile: filepath.Join(base, "log"), cluster: c, netns: place.Netns, settings: map[string]string{},
	}
	if err := c.host.privateDir(base); err != nil {
		return nil, fmt.Errorf("make directory of %s: %w", name, err)
	}
	if err := c.host.writeFile(n.LogFile, nil); err != nil { // the server's user, too, can append to it
		return nil, fmt.Errorf("make log of %s: %w", name, err)
	}
	if err := n.choosePort(); err != nil {
		return nil, err
	}
	if len(n.socketPath()) > maxSocketPath {
		return nil, fmt.Errorf("the path of socket %s is longer than %d bytes: choose a shorter directory", n.socketPath(), maxSocketPath)
	}
	return n, nil
}

func (n *Node) choosePort() error {
	if n.netns != nil {
		n.Port = placedPort
		return nil
	}
	r, err := reservePort()
	if err != nil {
		return err
	}
	if n.reserved != nil {
		n.reserved.close()
	}
	n.reserved, n.Port = r, r.port
	return nil
}

func (n *Node) socketPath() string {
	return filepath.Join(n.SocketDir, fmt.Sprintf(".s.PGSQL.%d", n.Port))
}

// Addr returns host:port.
func (n *Node) Addr() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// startFirst starts a node whose port nobody knows yet: if somebody took the
// port in spite of the reservation, another one will do.
func (n *Node) startFirst(ctx context.Context) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := n.Start(ctx)
		if err == nil || attempt == attempts || !strings.Contains(n.logTail(4<<10), "could not bind") {
			return err
		}
		if err := n.choosePort(); err != nil {
			return err
		}
		if err := n.writeConf(); err != nil {
			return err
		}
	}
}

// Start starts the server and returns when it answers queries.
func (n *Node) Start(ctx context.Context) error {
	if n.Running() {
		return fmt.Errorf("start %s: it runs", n.Name)
	}
	if err := n.clearRemains(ctx); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	log, err := os.OpenFile(n.LogFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	defer func() { _ = log.Close() }()
	// The server outlives ctx, which bounds the start alone.
	cmd := n.cluster.host.command(context.WithoutCancel(ctx), n.DataDir, "postgres", "-D", n.DataDir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := n.inNetns(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	n.exited = make(chan error, 1)
	go reap(cmd, n.exited)
	return n.waitReady(ctx, n.exited)
}

// inNetns calls f where the node lives.
func (n *Node) inNetns(f func() error) error {
	if n.netns == nil {
		return f()
	}
	return n.netns.Do(f)
}

// Tool runs one of PostgreSQL's programs where the node lives and as the server's
// user, to its end; its output is part of the error.
func (n *Node) Tool(ctx context.Context, name string, args ...string) error {
	return n.inNetns(func() error { return n.cluster.host.run(ctx, n.SocketDir, name, args...) })
}

// clearRemains makes sure that no process uses the data directory any more, and then
// removes a dead postmaster's locks. Orphaned backends end by themselves soon.
func (n *Node) clearRemains(ctx context.Context) error {
	err := poll(ctx, "end of orphans", func() error {
		if pids := n.processes(); len(pids) > 0 {
			return fmt.Errorf("processes %v work in the data directory", pids)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return removeLocks(n.DataDir, n.SocketDir)
}

// reap waits for the process, which Stop, Kill or Close ends.
func reap(cmd *exec.Cmd, exited chan<- error) {
	exited <- cmd.Wait()
	close(exited)
}

func (n *Node) waitReady(ctx context.Context, exited <-chan error) error {
	return poll(ctx, "start of "+n.Name, func() error {
		select {
		case err := <-exited:
			return final(fmt.Errorf("the server ended: %w\n%s", err, n.logTail(2<<10)))
		default:
		}
		_, err := n.Query(ctx, "SELECT 1")
		return err
	})
}

// PID returns the process id of the postmaster, 0 when there is none. A
// postmaster that pg_ctl started counts.
func (n *Node) PID() int {
	lock, err := readLockFile(n.DataDir)
	if err != nil || !worksIn(lock.pid, n.DataDir) {
		return 0
	}
	return lock.pid
}

// Running reports whether there is a postmaster, paused or not.
func (n *Node) Running() bool { return n.PID() != 0 }

// StopMode is how Stop shuts a server down, by pg_ctl's names.
type StopMode syscall.Signal

// The modes of Stop.
const (
	Smart     = StopMode(syscall.SIGTERM) // waits for all clients
	Fast      = StopMode(syscall.SIGINT)  // ends clients with 57P01
	Immediate = StopMode(syscall.SIGQUIT) // as after a crash
)

// Stop shuts the server down and returns when all its processes have ended.
func (n *Node) Stop(ctx context.Context, mode StopMode) error {
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("stop %s: it doesn't run", n.Name)
	}
	if err := syscall.Kill(pid, syscall.Signal(mode)); err != nil {
		return fmt.Errorf("stop %s: %w", n.Name, err)
	}
	return n.waitGone(ctx, n.processes())
}

// Kill models the death of the host: the postmaster and all its children are
// stopped and then killed, so that none writes a byte after another is dead.
// It leaves a directory that Start can use. Killing a dead node does nothing.
func (n *Node) Kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	if err := n.waitGone(ctx, killAll(n.DataDir)); err != nil {
		return err
	}
	return removeLocks(n.DataDir, n.SocketDir)
}

// KillPostmasterOnly kills the postmaster. New connections are refused, while backends
// live on until they notice, and accept writes for a moment.
func (n *Node) KillPostmasterOnly() error {
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("kill postmaster of %s: it doesn't run", n.Name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill postmaster of %s: %w", n.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	return n.waitGone(ctx, []int{pid})
}

// Pause stops all processes of the server: the kernel still accepts connections and
// bytes, but nobody answers. Resume ends it.
func (n *Node) Pause() error {
	if len(freeze(n.DataDir)) == 0 {
		return fmt.Errorf("pause %s: it doesn't run", n.Name)
	}
	return nil
}

// PausePostmaster stops only the postmaster: sessions work, logins hang.
func (n *Node) PausePostmaster() error {
	pid := n.PID()
	if pid == 0 { // kill(0) would signal our own process group
		return fmt.Errorf("pause postmaster of %s: it doesn't run", n.Name)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause postmaster of %s: %w", n.Name, err)
	}
	return nil
}

// Resume continues what Pause or PausePostmaster stopped.
func (n *Node) Resume() error {
	for _, pid := range n.processes() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("resume %s: %w", n.Name, err)
		}
	}
	return nil
}

func (n *Node) processes() []int { return processesIn(n.DataDir) }

// waitGone returns when pids, which include the postmaster, have ended and the
// postmaster was reaped if it was our child.
func (n *Node) waitGone(ctx context.Context, pids []int) error {
	err := poll(ctx, "end of "+n.Name, func() error {
		for _, pid := range pids {
			if !ended(pid) {
				return fmt.Errorf("process %d lives", pid)
			}
		}
		return nil
	})
	for err == nil && n.exited != nil {
		select {
		case _, more := <-n.exited:
			if !more {
				n.exited = nil
			}
		case <-ctx.Done():
			err = fmt.Errorf("wait for the end of the postmaster of %s: %w", n.Name, context.Cause(ctx))
		}
	}
	return err
}

// close ends the server in the quickest way that leaves no shared memory behind.
func (n *Node) close() error {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if n.Running() && n.Resume() == nil {
		// If it doesn't end, Kill is what is left.
		_ = n.Stop(ctx, Immediate)
	}
	err := n.Kill()
	if n.reserved != nil {
		n.reserved.close()
	}
	return err
}

// logTail returns at most the last size bytes of the server's log.
func (n *Node) logTail(size int64) string {
	f, err := os.Open(n.LogFile)
	if err != nil {
		return err.Error() + "\n"
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	tail, _ := io.ReadAll(f)
	return string(tail)
}
