package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// configurePgagroal writes the files of pgagroal with its defaults, except the log and
// the number of workers, since PgBouncer has one thread.
func (r *rig) configurePgagroal(ctx context.Context, p *pooler, w workload) ([]string, error) {
	for _, d := range []string{"run", "state"} {
		if err := r.makeDir(filepath.Join("pooler", d)); err != nil {
			return nil, err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[pgagroal]\nhost = 127.0.0.1\nport = %d\nunix_socket_dir = %s\nstate_dir = %s\n",
		p.port, filepath.Join(p.dir, "run"), filepath.Join(p.dir, "state"))
	fmt.Fprintf(&b, "log_level = warn\nhealth_check_user = "+account+"\npipeline = %s\nev_backend = %s\nworkers = %d\nmax_connections = %d\nbacklog = %d\n",
		p.target.mode, p.target.loop, max(1, p.target.workers), w.backends(), backlog)
	if p.target.looksUp {
		b.WriteString("auth_query = on\nauth_query_max_age = 1h\n")
	}
	if p.target.keeps {
		b.WriteString("failover_keep_sessions = known\n")
	}
	front, back, err := r.pgagroalTLS(p, w)
	if err != nil {
		return nil, err
	}
	if w.shows {
		if err := p.show(&b); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(&b, "%s\n[primary]\nhost = 127.0.0.1\nport = %d\nprimary = on\n%s", front, r.serverPort(), back)
	if p.target.hole {
		if err := p.addHole(&b); err != nil {
			return nil, err
		}
	}
	hba := "host all all all trust\n"
	if w.login != "" {
		hba = "host all all all " + w.login + "\n"
	}
	for name, text := range map[string]string{"pgagroal.conf": b.String(), "pgagroal_hba.conf": hba, "pgagroal_databases.conf": ""} {
		if err := r.writeFile(filepath.Join(p.dir, name), text); err != nil {
			return nil, err
		}
	}
	switch {
	case p.target.looksUp:
		if err := r.writeAsker(ctx, p); err != nil {
			return nil, err
		}
	case w.login != "":
		if err := r.writeUsers(ctx, p, w.user()); err != nil {
			return nil, err
		}
	}
	return []string{filepath.Join(r.programsOf(p.target), "pgagroal"), "-D", p.dir}, nil
}

// writeUsers makes the users file as an operator does.
func (r *rig) writeUsers(ctx context.Context, p *pooler, user string) error {
	return r.writeCredential(ctx, p, filepath.Join(p.dir, "pgagroal_users.conf"), user)
}

func (r *rig) writeCredential(ctx context.Context, p *pooler, file, user string) error {
	for _, args := range [][]string{
		{"-f", file, "-P", "a master key to measure with", "master-key"},
		{"-f", file, "-U", user, "-P", password, "user", "add"},
	} {
		argv := append([]string{filepath.Join(r.programsOf(p.target), "pgagroal-admin")}, args...)
		if out, err := r.command(ctx, argv).CombinedOutput(); err != nil {
			return fmt.Errorf("pgagroal-admin: %w: %s", err, out)
		}
	}
	return nil
}
