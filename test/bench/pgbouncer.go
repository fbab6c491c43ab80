package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

const pgbouncerProgram = "pgbouncer"

// backlog is the length of a pooler's queue of new clients, because thousands come at
// once.
const backlog = 1024

// configurePgBouncer writes PgBouncer's files with its defaults, except limits that
// match pgagroal's and a log without connections and statistics.
func (r *rig) configurePgBouncer(p *pooler, w workload) ([]string, error) {
	users := filepath.Join(p.dir, "userlist.txt")
	auth, secret := "trust", ""
	switch w.login {
	case loginScram:
		auth, secret = "scram-sha-256", password
	case loginPassword:
		auth, secret = "plain", password
	}
	if p.target.secret {
		secret = r.secret
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[databases]\n* = host=127.0.0.1 port=%d\n\n[pgbouncer]\n", r.node().Port)
	fmt.Fprintf(&b, "listen_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nlisten_backlog = %d\n", p.port, backlog)
	fmt.Fprintf(&b, "auth_type = %s\nauth_file = %s\npool_mode = %s\n", auth, users, p.target.mode)
	fmt.Fprintf(&b, "default_pool_size = %d\nmax_client_conn = %d\n", w.backends(), r.files-500)
	b.WriteString("log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n")
	if p.target.mode == "transaction" && needsPrepared(w) {
		b.WriteString("max_prepared_statements = 100\n")
	}
	encryption, err := r.pgbouncerTLS(p, w)
	if err != nil {
		return nil, err
	}
	b.WriteString(encryption)
	ini := filepath.Join(p.dir, "pgbouncer.ini")
	for path, text := range map[string]string{ini: b.String(), users: fmt.Sprintf("%q %q\n", w.user(), secret)} {
		if err := r.writeFile(path, text); err != nil {
			return nil, err
		}
	}
	program := r.peer
	if p.target.kind == newer {
		program = r.options.newer
	}
	return []string{program, "-q", ini}, nil
}
