package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKillLeavesNothingAndAllowsARestart(t *testing.T) {
	c := New(t, Options{Standbys: 1})
	n, alive := c.Nodes[0], c.Nodes[1]
	session := connect(t, n.Config("", "", "postgres"))
	run(t, n, "CREATE TABLE t (v int)")

	check(t, n.Kill())
	if pids := processesIn(n.DataDir); len(pids) != 0 || n.Running() {
		t.Errorf("processes %v are left", pids)
	}
	if _, err := session.Query(t.Context(), "SELECT 1"); err == nil || Code(err) != "" {
		t.Errorf("query on the dead host: %v, want a dead connection", err)
	}
	if _, err := net.Dial("tcp", n.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want it refused", err)
	}
	check(t, n.Kill()) // of a dead node does nothing

	// What a lock file says that names another live process of the same user,
	// by a process id used again.
	lock := fmt.Sprintf("%d\n%s\n", alive.PID(), n.DataDir)
	for _, path := range []string{filepath.Join(n.DataDir, "postmaster.pid"), n.socketPath() + ".lock"} {
		check(t, c.host.writeFile(path, []byte(lock)))
	}
	check(t, n.Start(t.Context()))
	run(t, n, "INSERT INTO t VALUES (1)")
	check(t, alive.WaitStreaming(t.Context(), n))
}

func TestKillPostmasterOnlyThenRestart(t *testing.T) {
	n := New(t, Options{}).Primary()
	check(t, n.KillPostmasterOnly())
	if n.Running() {
		t.Error("it runs")
	}
	if _, err := net.Dial("tcp", n.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want it refused", err)
	}
	check(t, n.Start(t.Context()))
	run(t, n, "SELECT 1")
}

func TestPausedServerAcceptsAndNeverAnswers(t *testing.T) {
	n := New(t, Options{}).Primary()
	session := connect(t, n.Config("", "", "postgres"))
	hangs := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := Connect(ctx, n.Config("", "", "postgres")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("login with %s: %v, want it to hang", what, err)
		}
	}
	check(t, n.PausePostmaster())
	hangs("a paused postmaster")
	_, err := session.Query(t.Context(), "SELECT 1")
	check(t, err)

	check(t, n.Pause())
	hangs("a paused server")
	check(t, session.Send(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := session.Query(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("query: %v, want it to hang", err)
	}
	check(t, n.Resume())
	run(t, n, "SELECT 1")
}

func TestPausedClusterCanBeClosed(t *testing.T) {
	c, err := Start(t.Context(), Options{Standbys: 1})
	check(t, err)
	for _, n := range c.Nodes {
		check(t, n.Pause())
	}
	check(t, c.Close())
	expectNoRemains(t, c.Dir)
	check(t, c.Close())
}

func TestStopFastEndsSessionsWithAdminShutdown(t *testing.T) {
	n := New(t, Options{}).Primary()
	session := connect(t, n.Config("", "", "postgres"))
	check(t, n.Stop(t.Context(), Fast))
	if _, err := session.ReadResult(t.Context()); Code(err) != "57P01" {
		t.Errorf("session: %v, want 57P01", err)
	}
	for what, err := range map[string]error{
		"stop": n.Stop(t.Context(), Fast), "pause": n.Pause(),
		"pause postmaster": n.PausePostmaster(), "kill postmaster": n.KillPostmasterOnly(),
	} {
		if err == nil {
			t.Errorf("%s of a stopped server succeeded", what)
		}
	}
	check(t, n.Start(t.Context()))
	if err := n.Start(t.Context()); err == nil {
		t.Error("second start succeeded")
	}
}

// A failover script starts and stops servers with pg_ctl.
func TestServerStartedByPgCtlIsOwnedToo(t *testing.T) {
	c := New(t, Options{})
	n := c.Primary()
	check(t, n.Stop(t.Context(), Fast))
	check(t, c.host.run(t.Context(), c.Dir, "pg_ctl", "start", "-w", "-s", "-D", n.DataDir, "-l", n.LogFile))
	run(t, n, "SELECT 1")
	check(t, n.Kill())
	if n.Running() {
		t.Error("it runs")
	}
	check(t, c.host.run(t.Context(), c.Dir, "pg_ctl", "start", "-w", "-s", "-D", n.DataDir, "-l", n.LogFile))
	check(t, c.Close())
	expectNoRemains(t, c.Dir)
}

func TestSettingsReachTheServers(t *testing.T) {
	c := New(t, Options{
		Standbys: 1, SyncStandbys: "FIRST 1 (n2)", SuperUser: "boss",
		Extra: map[string]string{"max_connections": "33"}, Env: []string{"PGAPPNAME=x"},
	})
	n := c.Primary()
	if got := run(t, n, "SELECT current_user, current_setting('max_connections')"); got != "boss|33" {
		t.Errorf("user and setting are %q", got)
	}
	Eventually(t, generous, "the standby to be synchronous", func() error {
		if got := run(t, n, "SELECT application_name, sync_state FROM pg_stat_replication"); got != "n2|sync" {
			return errors.New(got)
		}
		return nil
	})
	for i := 1; i <= 3; i++ {
		want := fmt.Sprintf("%dMB", i)
		check(t, n.Set(t.Context(), "work_mem", want))
		if got := run(t, n, "SHOW work_mem"); got != want {
			t.Fatalf("work_mem is %s after Set to %s", got, want)
		}
	}
}

func TestOnlyOwnSystemDiffersInItsIdentifier(t *testing.T) {
	identifier := func(opts Options) string {
		return run(t, New(t, opts).Primary(), "SELECT system_identifier FROM pg_control_system()")
	}
	common := identifier(Options{})
	if again := identifier(Options{}); again != common {
		t.Errorf("two clusters of one template have %s and %s", common, again)
	}
	if own := identifier(Options{OwnSystem: true}); own == common {
		t.Errorf("a system of its own has the identifier of the template, %s", own)
	}
}

func TestWritableSeesWhatAScriptPromoted(t *testing.T) {
	c := New(t, Options{Standbys: 1})
	old, standby := c.Nodes[0], c.Nodes[1]
	names := func() (names []string) {
		for _, n := range c.Writable(t.Context()) {
			names = append(names, n.Name)
		}
		return names
	}
	if diff := cmp.Diff([]string{"n1"}, names()); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	check(t, c.host.run(t.Context(), c.Dir, "pg_ctl", "promote", "-w", "-s", "-D", standby.DataDir))
	if diff := cmp.Diff([]string{"n1", "n2"}, names()); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if c.Primary() != old {
		t.Error("Primary follows what it can't know")
	}
	lsn, err := standby.LSN(t.Context())
	if err != nil || lsn == 0 {
		t.Errorf("LSN is %d, %v", lsn, err)
	}
}

func expectNoRemains(t *testing.T, dir string) {
	t.Helper()
	if pids := processesIn(dir); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is left: %v", err)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", maxSocketPath))
	check(t, os.Mkdir(long, 0o700))
	bad := Options{Extra: map[string]string{"max_connections": "none"}}
	for want, start := range map[string]func(*testing.T) (*Cluster, error){
		"install": func(t *testing.T) (*Cluster, error) {
			t.Setenv("PG_BINDIR", t.TempDir())
			return Start(t.Context(), Options{})
		},
		"choose a shorter":          func(t *testing.T) (*Cluster, error) { return Start(t.Context(), Options{Dir: long}) },
		`"max_connections": "none"`: func(t *testing.T) (*Cluster, error) { return Start(t.Context(), bad) },
	} {
		t.Run(want, func(t *testing.T) {
			c, err := start(t)
			if c != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("start: %v", err)
			}
		})
	}
}
