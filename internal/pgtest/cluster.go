package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// setupLimit is the time limit for operations without a context, or whose context has
// no deadline: far more than a busy machine needs.
const setupLimit = 2 * time.Minute

// Options of a cluster. The zero value is one server without standbys.
type Options struct {
	// Dir is an existing directory that the server's user can reach; it stays
	// after Close. Empty: a temporary one, removed by Close. Mind that as root
	// the directories of testing.T can't be entered by the server's user.
	Dir string
	// Standbys that stream from the primary, named n2, n3 and so on.
	Standbys int
	// SyncStandbys is synchronous_standby_names of the primary, set when all
	// standbys stream. A promoted standby has none until Node.Set.
	SyncStandbys string
	// Extra settings of postgresql.conf, for all nodes; they win over ours.
	Extra map[string]string
	// SuperUser is made by initdb; "postgres" when empty. It always gets in
	// through the Unix sockets, whatever HBA says.
	SuperUser string
	// HBA lines for everybody else; when nil trust on the
	// loopback address, or on the network of Places.
	HBA []string
	// Files to write into each data directory before the start: keys, certificates.
	Files map[string][]byte
	// Env is added to the environment of the servers, as KEY=VALUE.
	Env []string
	// Places give each node a network namespace and an address of its own, instead
	// of a port of the loopback address; nil for none.
	Places []Place
	// OwnSystem gives the cluster a system identifier of its own, at the price of
	// an initdb (0.5 s). Otherwise all clusters of the process share one.
	OwnSystem bool
}

// Place is where a node of its own network lives.
type Place struct {
	Netns *Netns
	Addr  string // IPv4 address that the namespace has
}

// placedPort is the port of a node in a network namespace of its own.
const placedPort = 5432

// Cluster is a primary and its standbys. The methods that change a cluster or a
// node are for one goroutine; those that ask a server something are for any.
type Cluster struct {
	// Nodes in the order of their names; the first one starts as primary.
	Nodes []*Node
	// Dir holds one directory for each node.
	Dir string

	opts    Options
	host    *host
	guard   *guard
	ownsDir bool
	primary atomic.Pointer[Node]
}

// New starts a cluster for a test, and fails the test if it can't: it never skips. The
// cluster is closed at the end of the test; if the test has failed, the servers' logs
// are shown.
func New(t testing.TB, opts Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupLimit)
	defer cancel()
	c, err := Start(ctx, opts)
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var logs strings.Builder
			c.DumpLogs(&logs)
			t.Log(logs.String())
		}
		if err := c.Close(); err != nil {
			t.Errorf("close cluster: %v", err)
		}
	})
	return c
}

// Start starts a cluster and returns when every standby streams. The caller
// closes it.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.SuperUser == "" {
		opts.SuperUser = "postgres"
	}
	c := &Cluster{opts: opts}
	err := c.prepare(ctx)
	if err == nil {
		err = c.startNodes(ctx)
	}
	if err != nil {
		var logs strings.Builder
		c.DumpLogs(&logs)
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, logs.String()), c.Close())
	}
	return c, nil
}

// prepare does everything except start the nodes.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.host, err = newHost(c.opts.Env); err != nil {
		return err
	}
	if err := c.makeDir(); err != nil {
		return err
	}
	if c.guard, err = startGuard(c.Dir, c.ownsDir); err != nil {
		return err
	}
	for i := range c.opts.Standbys + 1 {
		place := Place{Addr: loopback}
		if c.opts.Places != nil {
			place = c.opts.Places[i]
		}
		n, err := newNode(c, fmt.Sprintf("n%d", i+1), place)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, n)
	}
	c.primary.Store(c.Nodes[0])
	return c.fillDataDirs(ctx)
}

func (c *Cluster) makeDir() (err error) {
	if c.opts.Dir == "" {
		c.ownsDir = true
		c.Dir, err = c.host.tempDir("pgtest")
		return err
	}
	if c.Dir, err = filepath.Abs(c.opts.Dir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if c.Dir, err = filepath.EvalSymlinks(c.Dir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// fillDataDirs gives every node a copy of one stopped primary: a cold backup,
// which is far quicker than a pg_basebackup for each and just as good a standby.
func (c *Cluster) fillDataDirs(ctx context.Context) error {
	var source string
	var err error
	if c.opts.OwnSystem {
		source = c.Nodes[0].DataDir
		err = c.host.initdb(ctx, source, c.opts.SuperUser)
	} else {
		source, err = c.host.template(ctx, c.opts.SuperUser)
	}
	if err != nil {
		return err
	}
	return each(c.Nodes, func(n *Node) error {
		if n.DataDir == source {
			return n.writeFiles()
		}
		if err := c.host.copyTree(ctx, source, n.DataDir); err != nil {
			return err
		}
		return n.writeFiles()
	})
}

func (c *Cluster) startNodes(ctx context.Context) error {
	primary, standbys := c.Nodes[0], c.Nodes[1:]
	if err := primary.startFirst(ctx); err != nil {
		return err
	}
	err := each(standbys, func(n *Node) error {
		if err := n.makeStandby(ctx, primary); err != nil {
			return err
		}
		if err := n.startFirst(ctx); err != nil {
			return err
		}
		return n.WaitStreaming(ctx, primary)
	})
	if err != nil || c.opts.SyncStandbys == "" {
		return err
	}
	return primary.Set(ctx, "synchronous_standby_names", c.opts.SyncStandbys)
}

// makeStandby prepares the first start of a standby. A standby refuses settings
// that are lower than those in its control file, which in a cold backup are
// initdb's; only a backup of the running primary has the primary's.
func (n *Node) makeStandby(ctx context.Context, primary *Node) error {
	for _, key := range []string{
		"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	} {
		if _, given := n.cluster.opts.Extra[key]; given {
			return n.baseBackup(ctx, primary)
		}
	}
	return n.writeStandby(primary.Host, primary.Port)
}

// Primary returns the node that Start made primary, or the one that Node.Promote
// promoted last. Writable finds a node that a script has promoted.
func (c *Cluster) Primary() *Node { return c.primary.Load() }

// Standbys returns the nodes other than Primary, dead ones included.
func (c *Cluster) Standbys() []*Node {
	var rest []*Node
	for _, n := range c.Nodes {
		if n != c.Primary() {
			rest = append(rest, n)
		}
	}
	return rest
}

// Writable returns the nodes that answer and aren't in recovery.
func (c *Cluster) Writable(ctx context.Context) []*Node {
	var writable []*Node
	for _, n := range c.Nodes {
		if in, err := n.InRecovery(ctx); err == nil && !in {
			writable = append(writable, n)
		}
	}
	return writable
}

// DumpLogs writes the last part of each node's log.
func (c *Cluster) DumpLogs(w io.Writer) {
	for _, n := range c.Nodes {
		_, _ = fmt.Fprintf(w, "--- log of %s (port %d)\n%s", n.Name, n.Port, n.logTail(16<<10))
	}
}

// Close ends every process of the cluster and removes the directory unless the
// caller gave it. It may be called twice.
func (c *Cluster) Close() error {
	err := each(c.Nodes, (*Node).close)
	if c.guard != nil {
		err = errors.Join(err, c.guard.release())
		c.guard = nil
	}
	if c.ownsDir && c.Dir != "" {
		err = errors.Join(err, os.RemoveAll(c.Dir))
	}
	return err
}

// each calls f for all nodes at the same time and returns when all calls have returned.
func each(nodes []*Node, f func(*Node) error) error {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errs <- f(n) }()
	}
	var all []error
	for range nodes {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
