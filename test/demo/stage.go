package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// options of the command line.
type options struct {
	pipeline string
	keepSync bool
	script   time.Duration
	verbose  bool
	picture  string // file of a picture of the timeline; empty: none
	kept     bool   // no client uses pgagroal all the time, so health checks have to see a death
}

// syncNames makes a commit wait until any one standby has applied it. The standby that
// is promoted has received at least as much as any other one.
const syncNames = "ANY 1 (*)"

// stage is everything except the clients. One goroutine changes it.
type stage struct {
	options
	dir     string
	bin     string // directory of the programs
	port    int    // of pgagroal
	cluster *pgtest.Cluster
	owner   *syscall.Credential // the user to whom root gives every file; nil without root
	release func()              // of the port
	daemon  *exec.Cmd
	ended   chan struct{} // closed when the daemon has ended
	log     *follower
}

func newStage(dir string, o options) *stage { return &stage{options: o, dir: dir, log: newFollower()} }

func (s *stage) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// open starts everything and returns when a client can write through pgagroal.
func (s *stage) open(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	s.bin = filepath.Dir(exe)
	if s.owner, err = pgtest.Credential(); err != nil {
		return err
	}
	for _, d := range []string{"", "pg", "run", "state", "hooks"} {
		if err := s.makeDir(s.path(d)); err != nil {
			return err
		}
	}
	if err := s.startServers(ctx); err != nil {
		return err
	}
	if err := s.writeHooks(); err != nil {
		return err
	}
	return s.startPool(ctx)
}

func (s *stage) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return s.give(path)
}

func (s *stage) give(path string) error {
	if s.owner == nil {
		return nil
	}
	if err := os.Lchown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, s.user(), err)
	}
	return nil
}

func (s *stage) writeFile(path, content string, mode os.FileMode) error {
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return s.give(path)
}

func (s *stage) startServers(ctx context.Context) (err error) {
	s.cluster, err = pgtest.Start(ctx, pgtest.Options{
		Dir: s.path("pg"), Standbys: 2,
		Extra: map[string]string{"fsync": "on", "synchronous_commit": "remote_apply"},
		HBA: []string{
			"local all all trust", "host all all 127.0.0.1/32 trust", "host replication pgagroal_probe 127.0.0.1/32 trust",
		},
	})
	if err != nil {
		return fmt.Errorf("start the servers (user %s must be able to enter %s; TMPDIR or DEMO_DIR choose another place): %w", s.user(), s.dir, err)
	}
	for _, n := range s.cluster.Nodes {
		if err := n.Set(ctx, "synchronous_standby_names", syncNames); err != nil {
			return err
		}
	}
	for _, sql := range []string{
		"CREATE ROLE pgagroal_probe LOGIN REPLICATION IN ROLE pg_monitor", "CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app",
	} {
		if _, err := s.cluster.Primary().Query(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// user is who the servers, pgagroal and the scripts run as.
func (s *stage) user() string {
	id := strconv.Itoa(os.Geteuid())
	if s.owner != nil {
		id = strconv.Itoa(int(s.owner.Uid))
	}
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// config returns pgagroal.conf; all keys of failover have their defaults.
func (s *stage) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[pgagroal]\nhost = 127.0.0.1\nport = %d\nunix_socket_dir = %s\nstate_dir = %s\n", s.port, s.path("run"), s.path("state"))
	if s.owner != nil {
		fmt.Fprintf(&b, "user = %s\n", s.user())
	}
	fmt.Fprintf(&b, "log_level = debug\nlog_line_prefix = '%s'\n", logPrefix)
	fmt.Fprintf(&b, "pipeline = %s\nmax_connections = 40\nhealth_check_user = pgagroal_probe\n", s.pipeline)
	fmt.Fprintf(&b, "failover = on\nfailover_script = %s\nfailover_notify_script = %s\n", s.path("hooks", "failover.sh"), s.path("hooks", "notify.sh"))
	if s.kept {
		b.WriteString("health_check = on\nhealth_check_period = 2s\n")
	}
	for _, n := range s.cluster.Nodes {
		fmt.Fprintf(&b, "\n[%s]\nhost = %s\nport = %d\n", n.Name, n.Host, n.Port)
	}
	return b.String()
}

// startPool starts pgagroal and returns when a login through it works.
func (s *stage) startPool(ctx context.Context) (err error) {
	if s.port, s.release, err = pgtest.ReservePort(); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"pgagroal.conf": s.config(), "pgagroal_hba.conf": "host all all all trust\n", "pgagroal_databases.conf": "",
	} {
		if err := s.writeFile(s.path(name), text, 0o600); err != nil {
			return err
		}
	}
	if err := s.launch(); err != nil {
		return err
	}
	return until(ctx, "a login through pgagroal", func() error {
		select {
		case <-s.ended:
			return hopeless{errors.New("pgagroal has ended")}
		default:
		}
		c, err := pgtest.Connect(ctx, s.client())
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// launch starts the daemon with its log going to the follower and to a file.
func (s *stage) launch() error {
	file, err := os.OpenFile(s.path("pgagroal.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	var to io.Writer = file
	if s.verbose {
		to = io.MultiWriter(file, os.Stderr)
	}
	s.daemon = exec.Command(filepath.Join(s.bin, "pgagroal"), "-D", s.dir)
	s.daemon.Dir = s.dir
	s.daemon.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + s.dir, "LANG=C.UTF-8"}
	// Ctrl-C must reach only the demo, which ends the daemon and the servers in order.
	s.daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.daemon.Stdout = io.MultiWriter(to, s.log)
	s.daemon.Stderr = s.daemon.Stdout
	if err := s.daemon.Start(); err != nil {
		return errors.Join(fmt.Errorf("start pgagroal: %w", err), file.Close())
	}
	s.ended = make(chan struct{})
	go func() { // ends with the daemon, which close sees to
		defer close(s.ended)
		_ = s.daemon.Wait()
		_ = file.Close()
	}()
	return nil
}

func (s *stage) client() pgtest.ClientConfig {
	return pgtest.ClientConfig{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), User: "app", Database: "app"}
}

// ask runs pgagroal-cli and decodes the Response of its answer into v.
func (s *stage) ask(ctx context.Context, v any, args ...string) error {
	args = append([]string{"-c", s.path("pgagroal.conf"), "-F", "json"}, args...)
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "pgagroal-cli"), args...).Output()
	if err != nil {
		return fmt.Errorf("pgagroal-cli %s: %w: %s", strings.Join(args[4:], " "), err, out)
	}
	doc := struct{ Response any }{v}
	if err := json.Unmarshal(out, &doc); err != nil {
		return fmt.Errorf("pgagroal-cli %s: %w", strings.Join(args[4:], " "), err)
	}
	return nil
}

// dump prints the end of each log.
func (s *stage) dump(w io.Writer) {
	if text, err := os.ReadFile(s.path("pgagroal.log")); err == nil {
		lines := bytes.SplitAfter(text, []byte("\n"))
		fmt.Fprintf(w, "--- log of pgagroal\n%s", bytes.Join(lines[max(0, len(lines)-60):], nil))
	}
	if s.cluster != nil {
		s.cluster.DumpLogs(w)
	}
}

// close ends pgagroal and the servers, in this order; the directory stays.
func (s *stage) close() error {
	var err error
	if s.ended != nil {
		_ = s.daemon.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-s.ended:
		case <-time.After(5 * time.Second):
			_ = s.daemon.Process.Kill()
			<-s.ended
			err = errors.New("pgagroal did not end within 5 s of SIGTERM and was killed")
		}
	}
	if s.release != nil {
		s.release()
	}
	if s.cluster != nil {
		err = errors.Join(err, s.cluster.Close())
	}
	return err
}
