package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// errNoPostgres says what to install. On a machine without a server tests fail; they
// aren't skipped.
var errNoPostgres = errors.New("no PostgreSQL server found: install one (Debian: postgresql, Fedora: postgresql-server) " +
	"or set PG_BINDIR to the directory that holds initdb, postgres and pg_basebackup")

// host is how this machine runs PostgreSQL's programs. It doesn't change.
type host struct {
	bin  string              // directory of the programs
	cred *syscall.Credential // nil: as the caller
	env  []string            // the whole environment of the programs
}

func newHost(extraEnv []string) (*host, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	h := &host{bin: bin, env: append([]string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}, extraEnv...)}
	h.cred, err = Credential()
	return h, err
}

// Credential returns the user that servers, pgagroal and scripts run as: postgres for
// root, whom the server refuses, and nil, the present user, otherwise.
func Credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("as root servers and pgagroal run as user postgres: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("read ids of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// findBinaries looks in PG_BINDIR, then for the newest version that a package has
// installed, then in PATH.
func findBinaries() (string, error) {
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("PG_BINDIR %s: %w", dir, errNoPostgres)
		}
		return dir, nil
	}
	if dir := newestBinaries("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"); dir != "" {
		return dir, nil
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil && hasServer(strings.TrimSpace(string(out))) {
		return strings.TrimSpace(string(out)), nil
	}
	if path, err := exec.LookPath("postgres"); err == nil && hasServer(filepath.Dir(path)) {
		return filepath.Dir(path), nil
	}
	return "", errNoPostgres
}

func newestBinaries(patterns ...string) string {
	newest, best := "", -1
	for _, p := range patterns {
		dirs, _ := filepath.Glob(p) // fails only for a malformed pattern
		for _, dir := range dirs {
			name := strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "pgsql-")
			version, err := strconv.Atoi(name)
			if err == nil && version > best && hasServer(dir) {
				newest, best = dir, version
			}
		}
	}
	return newest
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "pg_basebackup"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// command prepares a program that runs as the server's user in a session of its own, so
// that Ctrl-C at a terminal ends the test and not the server under it.
func (h *host) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(h.bin, name)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, h.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: h.cred}
	return cmd
}

// run runs a program to its end; its output is part of the error.
func (h *host) run(ctx context.Context, dir, name string, args ...string) error {
	if out, err := h.command(ctx, dir, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copyTree copies a directory with its owner and modes; to must not exist.
func (h *host) copyTree(ctx context.Context, from, to string) error {
	cp, err := exec.LookPath("cp")
	if err != nil {
		return fmt.Errorf("copy directory: %w", err)
	}
	return h.run(ctx, filepath.Dir(to), cp, "-a", "--", from, to)
}

// own gives path to the server's user.
func (h *host) own(path string) error {
	if h.cred == nil {
		return nil
	}
	return os.Chown(path, int(h.cred.Uid), int(h.cred.Gid))
}

// privateDir makes a directory that only the server's user (and root) can enter.
func (h *host) privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return h.own(path)
}

// writeFile writes a file that the server's user owns alone, as PostgreSQL
// demands of keys.
func (h *host) writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return h.own(path)
}

// Binary returns the path of one of PostgreSQL's programs. It panics if there is none,
// because then nothing of this package works.
func Binary(name string) string {
	dir, err := findBinaries()
	if err != nil {
		panic(err)
	}
	return filepath.Join(dir, name)
}
