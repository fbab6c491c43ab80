package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Config returns how user connects to the node over TCP; the superuser when empty.
func (n *Node) Config(user, password, database string) ClientConfig {
	if user == "" {
		user = n.cluster.opts.SuperUser
	}
	return ClientConfig{Addr: n.Addr(), User: user, Password: password, Database: database}
}

// Dial logs the superuser in through the Unix socket, past any proxy and
// whatever Options.HBA says. The caller closes the client.
func (n *Node) Dial(ctx context.Context) (*Client, error) {
	return Connect(ctx, ClientConfig{
		Network: "unix", Addr: n.socketPath(), User: n.cluster.opts.SuperUser, Database: "postgres",
		Params: map[string]string{"application_name": "pgtest"},
	})
}

// Query runs sql as the superuser on a connection of its own and returns the
// rows as lines, their fields separated by '|'.
func (n *Node) Query(ctx context.Context, sql string) (string, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	c, err := n.Dial(ctx)
	if err != nil {
		return "", fmt.Errorf("query %s: %w", n.Name, err)
	}
	res, err := c.Query(ctx, sql)
	// After an error of the query the end of the session tells nothing more.
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", fmt.Errorf("query %s: %w", n.Name, err)
	}
	lines := make([]string, len(res.Rows))
	for i, row := range res.Rows {
		lines[i] = strings.Join(row, "|")
	}
	return strings.Join(lines, "\n"), nil
}

// InRecovery reports whether the node is a standby.
func (n *Node) InRecovery(ctx context.Context) (bool, error) {
	out, err := n.Query(ctx, "SELECT pg_is_in_recovery()")
	return out == "t", err
}

// LSN returns the position of the node's WAL in bytes: on a primary what is written; on
// a standby the greater of received and replayed, because received can be behind after
// a restart.
func (n *Node) LSN(ctx context.Context) (uint64, error) {
	return n.position(ctx, `CASE WHEN pg_is_in_recovery()
		THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
		ELSE pg_current_wal_lsn() END`)
}

func (n *Node) position(ctx context.Context, lsn string) (uint64, error) {
	out, err := n.Query(ctx, "SELECT ("+lsn+") - '0/0'::pg_lsn")
	if err != nil {
		return 0, err
	}
	bytes, err := strconv.ParseUint(out, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("position of %s: %w", n.Name, err)
	}
	return bytes, nil
}

// Promote makes a standby the primary and returns when it takes writes.
func (n *Node) Promote(ctx context.Context) error {
	if _, err := n.Query(ctx, "SELECT pg_promote(false)"); err != nil {
		return fmt.Errorf("promote %s: %w", n.Name, err)
	}
	err := poll(ctx, "promotion of "+n.Name, func() error {
		in, err := n.InRecovery(ctx)
		if err == nil && in {
			err = errors.New("still in recovery")
		}
		return err
	})
	if err == nil {
		n.cluster.primary.Store(n)
	}
	return err
}

// WaitStreaming returns when the node streams from upstream, as upstream sees it, and
// has on disk all that upstream had written when it was called: a standby that has
// begun a new timeline can't be promoted before.
func (n *Node) WaitStreaming(ctx context.Context, upstream *Node) error {
	want, err := upstream.LSN(ctx)
	if err != nil {
		return err
	}
	sql := fmt.Sprintf(`SELECT state, coalesce(flush_lsn >= '%X/%X', false)
		FROM pg_stat_replication WHERE application_name = %s`, want>>32, uint32(want), quote(n.Name))
	return poll(ctx, fmt.Sprintf("%s to stream from %s", n.Name, upstream.Name), func() error {
		state, err := upstream.Query(ctx, sql)
		if err == nil && state != "streaming|t" {
			err = fmt.Errorf("state and whether it has all: %q", state)
		}
		return err
	})
}

// WaitReplay returns when the node has replayed all that upstream had written
// when it was called.
func (n *Node) WaitReplay(ctx context.Context, upstream *Node) error {
	want, err := upstream.LSN(ctx)
	if err != nil {
		return err
	}
	return poll(ctx, n.Name+" to replay", func() error {
		got, err := n.position(ctx, "pg_last_wal_replay_lsn()")
		if err == nil && got < want {
			err = fmt.Errorf("replayed %d of %d bytes", got, want)
		}
		return err
	})
}

// Follow makes a running standby stream from the server at host and port, which
// may be a Proxy before a node.
func (n *Node) Follow(ctx context.Context, host string, port int) error {
	_, err := n.Query(ctx, "ALTER SYSTEM SET primary_conninfo = "+quote(n.conninfo(host, port)))
	if err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	return n.reload(ctx)
}

// Rejoin replaces the node's data by a base backup of upstream and starts it as
// a standby: what an administrator does with a failed primary. It returns when it
// streams.
func (n *Node) Rejoin(ctx context.Context, upstream *Node) error {
	if err := n.Kill(); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	if err := n.baseBackup(ctx, upstream); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	if err := n.Start(ctx); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	return n.WaitStreaming(ctx, upstream)
}

// baseBackup replaces the stopped node's data by upstream's, as a standby of it.
func (n *Node) baseBackup(ctx context.Context, upstream *Node) error {
	if err := os.RemoveAll(n.DataDir); err != nil {
		return fmt.Errorf("remove data of %s: %w", n.Name, err)
	}
	return n.Tool(ctx, "pg_basebackup", "-D", n.DataDir, "-R", "-X", "stream", "-c", "fast",
		"--no-sync", "-d", n.conninfo(upstream.Host, upstream.Port))
}
