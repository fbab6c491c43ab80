package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// User, password and database of the clients. The password is no secret: it lives as
// long as the cluster, which can only be reached from the loopback address.
const (
	database  = "bench"
	account   = "bench"
	scramUser = "scram"
	password  = "measured-not-guarded"
)

// rig is everything except the poolers. One goroutine uses it.
type rig struct {
	options
	cluster  *pgtest.Cluster
	dir      string // in the cluster's directory, and removed with it
	programs string // our programs, where the user of the poolers can run them
	owner    *syscall.Credential
	secret   string // the server's SCRAM secret of scramUser
	older    string // like programs, of the other build; empty without -before
	peer     string // path of PgBouncer's program
	proxy    string // path of HAProxy's program; empty when there is none
	files    uint64 // most open files of a process
	ecdsa    identity
	rsa      identity
	openssl  string // path of opensslConf
	crew     *crew  // in front of PostgreSQL during the turns of a case that needs it, else nil
}

// newRig starts the cluster and fills it. The caller closes the rig.
func newRig(ctx context.Context, o options) (*rig, error) {
	r := &rig{options: o}
	err := r.raiseLimit()
	if err == nil {
		err = r.findPeer()
	}
	if err == nil {
		r.owner, err = pgtest.Credential()
	}
	if err == nil {
		err = r.copyPrograms()
	}
	if err == nil {
		err = errors.Join(r.makeIdentities(), r.writeOpenSSLConf())
	}
	if err == nil {
		err = r.startCluster(ctx)
	}
	if err == nil {
		err = r.fill(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) close() error {
	var err error
	if r.cluster != nil {
		err = r.cluster.Close()
	}
	for _, dir := range []string{r.programs, r.older} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// raiseLimit sets the limit of open files to the maximum. Children inherit it only if
// it is set here: the limit that Go sets by itself it resets in children.
func (r *rig) raiseLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	l.Cur = l.Max
	r.files = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	return nil
}

func (r *rig) findPeer() error {
	r.proxy = find(haproxyProgram)
	if r.peer = find(pgbouncerProgram); r.peer == "" {
		return errors.New("no PgBouncer found: .ci/setup bench installs it")
	}
	return nil
}

// find looks for a program also in sbin, which is only in root's PATH.
func find(name string) string {
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// benchProgram is the name of this program's copy.
const benchProgram = "pgagroal-bench"

// copyPrograms copies the programs beside this one to a place where the other user can
// run them: a checkout in a home directory may be closed to that user, and /dev/shm,
// where the cluster is, may not allow programs.
func (r *rig) copyPrograms() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	if r.programs, err = copyAll(filepath.Dir(self)); err != nil {
		return err
	}
	if err := copyProgram(self, filepath.Join(r.programs, benchProgram)); err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	if r.options.before != "" {
		r.older, err = copyAll(r.options.before)
	}
	return err
}

// copyAll returns a new directory with the programs of another one.
func copyAll(from string) (string, error) {
	dir, err := os.MkdirTemp("", "pgagroal-bench")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, fmt.Errorf("open the directory of the programs: %w", err)
	}
	for _, name := range []string{"pgagroal", "pgagroal-admin", "pgagroal-cli", "pgagroal-console"} {
		if err := copyProgram(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
			return dir, fmt.Errorf("copy %s, which make build makes: %w", name, err)
		}
	}
	return dir, nil
}

// programsOf returns the directory with the programs of a target.
func (r *rig) programsOf(t target) string {
	if t.kind == before {
		return r.older
	}
	return r.programs
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// startCluster starts PostgreSQL so that it does little more than answer: no fsync, no
// full pages, no checkpoint during a measurement.
func (r *rig) startCluster(ctx context.Context) (err error) {
	r.cluster, err = pgtest.Start(ctx, pgtest.Options{
		Extra: map[string]string{
			"fsync": "off", "full_page_writes": "off", "shared_buffers": "256MB", "max_connections": "300",
			"max_wal_size": "1GB", "checkpoint_timeout": "1h", "wal_level": "minimal", "max_wal_senders": "0",
			"ssl": "on",
		},
		Files: map[string][]byte{"server.crt": r.ecdsa.cert, "server.key": r.ecdsa.key},
		Env:   []string{r.opensslEnv()},
		HBA: []string{
			"local all all trust", "host all " + scramUser + " 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust",
		},
	})
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	r.dir = r.cluster.Dir
	for _, d := range []string{"pooler", "log"} {
		if err := r.makeDir(d); err != nil {
			return err
		}
	}
	if r.pin {
		return r.pinTree(ctx, r.node().PID())
	}
	return nil
}

func (r *rig) node() *pgtest.Node { return r.cluster.Primary() }

// serverPort returns the port of the poolers' server.
func (r *rig) serverPort() int {
	if r.crew != nil {
		return r.crew.port()
	}
	return r.node().Port
}

// fill makes the database with pgbench's tables.
func (r *rig) fill(ctx context.Context) error {
	for _, sql := range []string{
		"CREATE ROLE " + account + " LOGIN", "CREATE ROLE " + scramUser + " LOGIN PASSWORD '" + password + "' IN ROLE " + account,
		"CREATE DATABASE " + database + " OWNER " + account,
	} {
		if _, err := r.node().Query(ctx, sql); err != nil {
			return err
		}
	}
	var err error
	if r.secret, err = r.node().Query(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = '"+scramUser+"'"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, pgtest.Binary("pgbench"), append(r.connection(r.node().Port, account), "-i", "-q", "-s", strconv.Itoa(r.scale), database)...)
	cmd.Env = r.clientEnv(noLeg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill pgbench's tables: %w: %s", err, out)
	}
	return nil
}

// vacuum brings the tables to a state that doesn't depend on earlier measurements.
func (r *rig) vacuum(ctx context.Context) error {
	c, err := pgtest.Connect(ctx, r.node().Config(account, "", database))
	if err != nil {
		return fmt.Errorf("clean the tables: %w", err)
	}
	for _, sql := range []string{
		"TRUNCATE pgbench_history", "VACUUM pgbench_accounts", "VACUUM pgbench_branches", "VACUUM pgbench_tellers",
	} {
		if _, err = c.Query(ctx, sql); err != nil {
			break
		}
	}
	if err := errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("clean the tables: %w", err)
	}
	_, err = r.node().Query(ctx, "CHECKPOINT")
	return err
}

func (r *rig) path(name ...string) string {
	return filepath.Join(append([]string{r.dir}, name...)...)
}

// makeDir makes a directory of the poolers' user.
func (r *rig) makeDir(name string) error {
	if err := os.Mkdir(r.path(name), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return r.give(r.path(name))
}

func (r *rig) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return r.give(path)
}

func (r *rig) give(path string) error {
	if r.owner == nil {
		return nil
	}
	if err := os.Lchown(path, int(r.owner.Uid), int(r.owner.Gid)); err != nil {
		return fmt.Errorf("give a file to the poolers' user: %w", err)
	}
	return nil
}

// processors returns the CPU lists for the pooler and for everything else, in taskset's
// form; empty without -pin.
func (r *rig) processors() (pooler, others string) {
	n := runtime.NumCPU()
	if !r.pin || n < 2 {
		return "", ""
	}
	return strconv.Itoa(n - 1), "0-" + strconv.Itoa(n-2)
}

// pinned puts taskset before a command if there are CPUs to pin it to.
func pinned(processors string, argv []string) []string {
	if processors == "" {
		return argv
	}
	return append([]string{"taskset", "-c", processors}, argv...)
}

// pinTree pins the postmaster; its children inherit that.
func (r *rig) pinTree(ctx context.Context, pid int) error {
	_, others := r.processors()
	if others == "" {
		return errors.New("-pin needs two processors")
	}
	out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", others, strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pin PostgreSQL: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
