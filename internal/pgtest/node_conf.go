package pgtest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// baseSettings make a server small, quick to start, and ready for replication,
// promotion and pg_rewind. Options.Extra overrides them.
func (n *Node) baseSettings() map[string]string {
	return map[string]string{
		"listen_addresses":            n.Host,
		"port":                        strconv.Itoa(n.Port),
		"unix_socket_directories":     n.SocketDir,
		"cluster_name":                n.Name,
		"wal_level":                   "replica",
		"hot_standby":                 "on",
		"max_wal_senders":             "10",
		"wal_log_hints":               "on",
		"wal_keep_size":               "64MB",
		"wal_retrieve_retry_interval": "100ms",
		"shared_buffers":              "16MB",
		// Use files in the data directory instead of /dev/shm: they are removed with
		// the directory.
		"dynamic_shared_memory_type": "mmap",
		"fsync":                      "off",
		"autovacuum":                 "off", // an idle server's LSN stays where it is
		"jit":                        "off",
		"log_line_prefix":            "%m [%p] %q%u@%d/%a ",
	}
}

// writeConf writes the node's settings; a running server reads them at reload.
func (n *Node) writeConf() error {
	all := n.baseSettings()
	maps.Copy(all, n.cluster.opts.Extra)
	maps.Copy(all, n.settings)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", key, quote(all[key]))
	}
	err := n.cluster.host.writeFile(filepath.Join(filepath.Dir(n.DataDir), nodeConf), []byte(b.String()))
	if err != nil {
		return fmt.Errorf("write settings of %s: %w", n.Name, err)
	}
	return nil
}

// writeFiles writes this node's files into a copied data directory.
func (n *Node) writeFiles() error {
	for name, data := range n.cluster.opts.Files {
		if err := n.cluster.host.writeFile(filepath.Join(n.DataDir, name), data); err != nil {
			return fmt.Errorf("write %s of %s: %w", name, n.Name, err)
		}
	}
	hba := filepath.Join(n.DataDir, "pg_hba.conf")
	if err := n.cluster.host.writeFile(hba, []byte(n.cluster.opts.hba())); err != nil {
		return fmt.Errorf("write pg_hba.conf of %s: %w", n.Name, err)
	}
	return n.writeConf()
}

// hba lets in the superuser by socket and the standbys, and then what the options say.
func (o *Options) hba() string {
	from := loopback + "/32"
	if o.Places != nil {
		from = "samenet"
	}
	super := `"` + o.SuperUser + `"`
	lines := []string{
		"local all " + super + " trust",
		"local replication " + super + " trust",
		"host replication " + super + " " + from + " trust",
	}
	if o.HBA == nil {
		lines = append(lines, "local all all trust", "host all all "+from+" trust")
	}
	return strings.Join(append(lines, o.HBA...), "\n") + "\n"
}

// writeStandby makes the stopped node a standby of the server at host and port.
func (n *Node) writeStandby(host string, port int) error {
	auto := "primary_conninfo = " + quote(n.conninfo(host, port)) + "\n"
	for name, data := range map[string]string{"postgresql.auto.conf": auto, "standby.signal": ""} {
		if err := n.cluster.host.writeFile(filepath.Join(n.DataDir, name), []byte(data)); err != nil {
			return fmt.Errorf("make %s a standby: %w", n.Name, err)
		}
	}
	return nil
}

func (n *Node) conninfo(host string, port int) string {
	return fmt.Sprintf("host=%s port=%d user=%s application_name=%s", host, port, n.cluster.opts.SuperUser, n.Name)
}

// quote makes s a value of a configuration file, or a literal of SQL.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Set changes one setting of this node, in a file that survives pg_rewind, and
// returns when new sessions see it. Settings that need a restart wait for one.
func (n *Node) Set(ctx context.Context, key, value string) error {
	n.settings[key] = value
	if err := n.writeConf(); err != nil {
		return err
	}
	if err := n.reload(ctx); err != nil || key != "synchronous_standby_names" {
		return err
	}
	// Commits use a copy in shared memory, which the checkpointer updates before it
	// does anything else.
	if _, err := n.Query(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("set %s of %s: %w", key, n.Name, err)
	}
	return nil
}

// reload returns when the postmaster has read its files again: a session that
// starts later inherits the time of that.
func (n *Node) reload(ctx context.Context) error {
	before, err := n.Query(ctx, "SELECT pg_conf_load_time()")
	if err != nil {
		return fmt.Errorf("reload %s: %w", n.Name, err)
	}
	if _, err := n.Query(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload %s: %w", n.Name, err)
	}
	return poll(ctx, "reload of "+n.Name, func() error {
		after, err := n.Query(ctx, "SELECT pg_conf_load_time()")
		if err == nil && after == before {
			err = fmt.Errorf("settings are of %s", after)
		}
		return err
	})
}
