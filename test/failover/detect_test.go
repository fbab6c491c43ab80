package failover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestAKilledPrimaryIsConfirmedByThreeRefusedProbes(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
	if got := s.Epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	run := s.Told("failover")
	pool.Says(t, run, "reason", "3 probes in a row: refused")
	pool.Says(t, run, "old", "n1")
	pool.Says(t, run, "new", "n2")
	pool.Says(t, run, "result", "exit code 0")
	pool.Says(t, run, "probes", "n1: refused")
	pool.Says(t, run, "candidates", "chosen")
	pool.Says(t, s.Told("verified"), "result", "out of recovery")
	pool.Says(t, s.Server("n1"), "Reason", "replaced by n2")
	pool.Says(t, s.Server("n1"), "EndedBy", "pgagroal-cli clear server n1")
}

func TestAQuickRestartOfThePrimaryRunsNothing(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]struct {
		mode  pgtest.StopMode
		count string
	}{
		"fast":      {pgtest.Fast, "3"},         // announced, so the grace alone keeps the script away
		"immediate": {pgtest.Immediate, "1000"}, // as a crash, which has no grace
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			// Probes in quick succession, to be sure that they see the shutdown
			// whatever its end looks like.
			s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_probe_interval": "50ms", "failover_probe_count": stop.count, "failover_restart_grace": "5m"}})
			s.Opened("n1")
			s.Pool.Connect()
			pool.Must(t, c.Nodes[0].Stop(pool.Within(t), stop.mode))
			s.WaitStatus("Phase", "suspect")
			if stop.mode == pgtest.Fast {
				s.Seen("n1", "refused")
				s.Quiet(2 * time.Second) // far longer than three probes take
			}
			pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
			s.Same()
			if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
				t.Errorf("a client is on %s, want n1", got)
			}
		})
	}
}

func TestAnAnnouncedShutdownWaitsForTheGraceOfARestart(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "6s", "failover_keep_sessions": "off"}})
	s.Opened("n1")
	client := s.Pool.Connect()
	stopped := time.Now()
	pool.Must(t, c.Nodes[0].Stop(pool.Within(t), pgtest.Fast))
	s.Seen("n1", "refused")
	s.Quiet(2 * time.Second) // three refused probes take one
	pool.Says(t, s.Server("n1"), "Probe", "refused")
	if got := s.Word("Phase"); got != "suspect" {
		t.Errorf("phase is %q, want suspect", got)
	}
	s.Failover.WaitRuns(1)
	if d := time.Since(stopped); d < 6*time.Second {
		t.Errorf("the script ran %v after an announced shutdown", d)
	}
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
	if _, err := pool.Query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client of the primary that was shut down got %v, want 57P01", err)
	}
}

// TestAKilledPostmasterAnnouncesNoRestart: its sessions end with 57P01, as after an administrator's command, and the grace
// of a restart is longer than anybody waits here.
func TestAKilledPostmasterAnnouncesNoRestart(t *testing.T) {
	t.Parallel()
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "1h", "pipeline": pipeline}})
			s.Opened("n1")
			idle, busy := s.Pool.Connect(), s.Pool.Connect()
			pool.MustQuery(t, idle, "SELECT 1")
			pool.MustQuery(t, busy, "BEGIN")
			pool.Must(t, c.Nodes[0].KillPostmasterOnly())
			s.Opened("n2")
			s.Notify.WaitRuns(1)
			s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
			pool.Says(t, s.Told("failover"), "reason", "3 probes in a row: refused")
		})
	}
}

// keepFull takes each connection that the node has to give, until the returned function is called. One that
// a probe holds for a moment is taken, too, when the probe has ended.
func keepFull(t *testing.T, n *pgtest.Node) (free func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var filling sync.WaitGroup
	filling.Go(func() {
		for ctx.Err() == nil {
			client, err := pgtest.Connect(ctx, n.Config("", "", "postgres"))
			if err == nil {
				defer client.Close()
				continue
			}
			if pgtest.Code(err) != "53300" && ctx.Err() == nil {
				t.Errorf("a login at the full server: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() {
		cancel()
		filling.Wait()
	}
}

func TestAFullPrimaryIsAlive(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, Extra: map[string]string{"max_connections": "8", "superuser_reserved_connections": "0", "max_wal_senders": "2"}})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check": "on", "health_check_period": "1s"}})
	s.Opened("n1")
	defer keepFull(t, c.Nodes[0])()
	s.Seen("n1", "alive (53300)")
	s.Quiet(2 * time.Second) // more than three probes
	s.Seen("n1", "alive (53300)")
	s.Same()
}

func TestAPasswordThatTheServersRefuseIsNoDeath(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, HBA: []string{"host all probe 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"}})
	_, err := c.Nodes[0].Query(pool.Within(t), "CREATE ROLE probe LOGIN PASSWORD 'right'")
	pool.Must(t, err)
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Nodes[0]))
	s := pool.Play(t, c, pool.Plan{
		Users: map[string]string{"probe": "wrong"},
		Keys:  map[string]string{"health_check": "on", "health_check_period": "1s", "health_check_user": "probe"},
	})
	s.Opened("n1")
	s.Seen("n1", "alive (28P01)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.Quiet(2 * time.Second)
	s.Pool.WaitLog("a probe can't log in")
	s.Pool.WaitLog("alarm=login") // until a client is let in without a password, whose user does for probes
	s.Same()
}

func TestADeadStandbyRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check": "on", "health_check_period": "1s"}})
	s.Opened("n1")
	client := s.Pool.Connect()
	pool.Must(t, c.Nodes[1].Kill())
	s.Seen("n2", "refused")
	s.Quiet(2 * time.Second)
	pool.MustQuery(t, client, "SELECT 1")
	s.Same()
}

func TestATerminatedOrResetBackendRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: map[string]string{"failover_keep_sessions": "off"}})
	s.Opened("n1")
	terminated, reset := s.Pool.Connect(), s.Pool.Connect()
	pid := pool.MustQuery(t, terminated, "SELECT pg_backend_pid()")[0][0]
	_, err := c.Nodes[0].Query(pool.Within(t), "SELECT pg_terminate_backend("+pid+")")
	pool.Must(t, err)
	if _, err := pool.Query(terminated, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client of the terminated backend got %v, want 57P01", err)
	}
	pool.MustQuery(t, reset, "SELECT 1")
	proxies[0].ResetAll()
	if _, err := pool.Query(reset, "SELECT 1"); err == nil {
		t.Error("the client of the reset backend got an answer")
	}
	s.Pool.WaitLog(" hint ")
	s.Quiet(1500 * time.Millisecond) // more than three probes, had the first been bad
	pool.MustQuery(t, s.Pool.Connect(), "SELECT 1")
	s.Same()
}

func TestAPrimaryThatBecomesAStandbyIsFencedAndHeldAndRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_probe_interval": "50ms", "failover_probe_count": "1000", "failover_restart_grace": "5m"}})
	s.Opened("n1")
	n1 := c.Nodes[0]
	s.Pool.Connect()
	signal := filepath.Join(n1.DataDir, "standby.signal")
	pool.Must(t, n1.Stop(pool.Within(t), pgtest.Fast))
	pool.Must(t, os.WriteFile(signal, nil, 0o600))
	pool.Give(t, signal)
	pool.Must(t, n1.Start(pool.Within(t)))
	s.Held("n1 answers as a standby")
	s.Pool.WaitState("n1", "Primary (not writable)")
	s.Alarmed("n1 answers as a standby")
	waiting := s.LogIn()
	s.Quiet(1500 * time.Millisecond)
	pool.Must(t, n1.Promote(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.Pool.WaitState("n1", "Primary")
	s.Same()
}

// patience is how long PostgreSQL waits for a backend that doesn't end before it
// kills it, and goes on with its recovery.
const patience = 5 * time.Second

// crash kills the backend of a client's session, which takes the whole server
// through crash recovery. A stopped backend keeps that from ending for as long as
// the server has patience, five seconds, or until release lets it go.
func crash(t *testing.T, n *pgtest.Node, client *pgtest.Client) (release func()) {
	t.Helper()
	held, err := n.Dial(pool.Within(t))
	pool.Must(t, err)
	t.Cleanup(func() { held.Close() })
	stopped := int(held.PID)
	killed, err := strconv.Atoi(pool.MustQuery(t, client, "SELECT pg_backend_pid()")[0][0])
	pool.Must(t, err)
	pool.Freeze(t, stopped)
	pool.Must(t, syscall.Kill(killed, syscall.SIGKILL))
	return func() {
		// If the server has lost its patience, the process is gone already, which is as
		// good.
		if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

func TestAServerInCrashRecoveryIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	// The first probe may be faster than the postmaster's notice of the crash.
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_probe_interval": "50ms", "health_check": "on", "health_check_period": "1s"}})
	s.Opened("n1")
	n1 := c.Nodes[0]
	client := s.Pool.Connect()
	crashed := time.Now()
	release := crash(t, n1, client)
	s.Seen("n1", "starting (57P03)")
	s.Quiet(1500 * time.Millisecond) // thirty probes
	phase, server := s.Word("Phase"), s.Server("n1")
	if time.Since(crashed) < patience { // the server is still in recovery
		pool.Says(t, server, "Probe", "starting (57P03)")
		if phase != "suspect" {
			t.Errorf("phase is %q, want suspect", phase)
		}
	}
	release()
	s.Same()
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
}

func TestRecoveryThatOutlastsItsGraceIsADeath(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{
		// The choice must be made before the server has lost its patience.
		"failover_probe_interval": "10ms", "failover_startup_grace": "200ms", "failover_restart_grace": "200ms",
		"health_check": "on", "health_check_period": "1s",
	}})
	s.Opened("n1")
	n1 := c.Nodes[0]
	client := s.Pool.Connect()
	release := crash(t, n1, client)
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, c.Nodes[1]), pool.OneRun(n1, c.Nodes[1]))
	release()
	s.Pool.WaitState("n1", "Failed (split brain)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}
