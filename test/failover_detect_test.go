package test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// same checks that the pool is open on n1 in its first epoch with nothing run.
func (s *scene) same() {
	s.t.Helper()
	s.opened("n1")
	if got := s.epoch(); got != 1 {
		s.t.Errorf("epoch is %d, want 1", got)
	}
	s.nothingRan()
}

func TestAKilledPrimaryIsConfirmedByThreeRefusedProbes(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
	if got := s.epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	run := s.told("failover")
	says(t, run, "reason", "3 probes in a row: refused")
	says(t, run, "old", "n1")
	says(t, run, "new", "n2")
	says(t, run, "result", "exit code 0")
	says(t, run, "probes", "n1: refused")
	says(t, run, "candidates", "chosen")
	says(t, s.told("verified"), "result", "out of recovery")
	says(t, s.server("n1"), "Reason", "replaced by n2")
	says(t, s.server("n1"), "EndedBy", "pgagroal-cli clear server n1")
}

func TestAQuickRestartOfThePrimaryRunsNothing(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgtest.StopMode{"fast": pgtest.Fast, "immediate": pgtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			// Probes in quick succession, to be sure that they see the shutdown
			// whatever its end looks like.
			s := play(t, c, plan{keys: map[string]string{"failover_probe_interval": "50ms", "failover_probe_count": "40", "failover_restart_grace": "10s"}})
			s.opened("n1")
			s.p.Connect()
			must(t, c.Nodes[0].Stop(within(t), mode))
			s.waitStatus("Phase", "suspect")
			must(t, c.Nodes[0].Start(within(t)))
			s.same()
			if got := at(t, s.p.Connect()); got != "n1" {
				t.Errorf("a client is on %s, want n1", got)
			}
		})
	}
}

func TestAnAnnouncedShutdownWaitsForTheGraceOfARestart(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"failover_restart_grace": "3s"}})
	s.opened("n1")
	client := s.p.Connect()
	must(t, c.Nodes[0].Stop(within(t), pgtest.Fast))
	stopped := time.Now()
	s.quiet(2 * time.Second) // three refused probes take one
	says(t, s.server("n1"), "Probe", "refused")
	if got := s.word("Phase"); got != "suspect" {
		t.Errorf("phase is %q, want suspect", got)
	}
	s.failover.WaitRuns(1)
	if d := time.Since(stopped); d < 2900*time.Millisecond {
		t.Errorf("the script ran %v after an announced shutdown", d)
	}
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
	if _, err := query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client of the primary that was shut down got %v, want 57P01", err)
	}
}

func TestAFullPrimaryIsAlive(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, Extra: map[string]string{"max_connections": "8", "superuser_reserved_connections": "0", "max_wal_senders": "2"}})
	s := play(t, c, plan{keys: map[string]string{"health_check": "on", "health_check_period": "1s"}})
	s.opened("n1")
	for full := false; !full; {
		client, err := pgtest.Connect(within(t), c.Nodes[0].Config("", "", "postgres"))
		if full = pgtest.Code(err) == "53300"; !full {
			must(t, err)
			defer client.Close()
		}
	}
	s.seen("n1", "alive (53300)")
	s.quiet(2 * time.Second) // more than three probes
	says(t, s.server("n1"), "Probe", "alive (53300)")
	s.same()
}

func TestAPasswordThatTheServersRefuseIsNoDeath(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, HBA: []string{"host all probe 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"}})
	_, err := c.Nodes[0].Query(within(t), "CREATE ROLE probe LOGIN PASSWORD 'right'")
	must(t, err)
	must(t, c.Nodes[1].WaitReplay(within(t), c.Nodes[0]))
	s := play(t, c, plan{
		users: map[string]string{"probe": "wrong"},
		keys:  map[string]string{"health_check": "on", "health_check_period": "1s", "health_check_user": "probe"},
	})
	s.opened("n1")
	s.seen("n1", "alive (28P01)")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.quiet(2 * time.Second)
	s.p.WaitLog("a probe can't log in")
	s.p.WaitLog("alarm=login") // until a client is let in without a password, whose user does for probes
	s.same()
}

func TestADeadStandbyRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	s := play(t, c, plan{keys: map[string]string{"health_check": "on", "health_check_period": "1s"}})
	s.opened("n1")
	client := s.p.Connect()
	must(t, c.Nodes[1].Kill())
	s.seen("n2", "refused")
	s.quiet(2 * time.Second)
	mustQuery(t, client, "SELECT 1")
	s.same()
}

func TestATerminatedOrResetBackendRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: servers})
	s.opened("n1")
	terminated, reset := s.p.Connect(), s.p.Connect()
	pid := mustQuery(t, terminated, "SELECT pg_backend_pid()")[0][0]
	_, err := c.Nodes[0].Query(within(t), "SELECT pg_terminate_backend("+pid+")")
	must(t, err)
	if _, err := query(terminated, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client of the terminated backend got %v, want 57P01", err)
	}
	mustQuery(t, reset, "SELECT 1")
	proxies[0].ResetAll()
	if _, err := query(reset, "SELECT 1"); err == nil {
		t.Error("the client of the reset backend got an answer")
	}
	s.p.WaitLog(" hint ")
	s.quiet(1500 * time.Millisecond) // more than three probes, had the first been bad
	mustQuery(t, s.p.Connect(), "SELECT 1")
	s.same()
}

func TestAPrimaryThatBecomesAStandbyIsFencedAndHeldAndRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"failover_probe_interval": "50ms", "failover_probe_count": "200"}})
	s.opened("n1")
	n1 := c.Nodes[0]
	s.p.Connect()
	signal := filepath.Join(n1.DataDir, "standby.signal")
	must(t, n1.Stop(within(t), pgtest.Fast))
	must(t, os.WriteFile(signal, nil, 0o600))
	give(t, signal)
	must(t, n1.Start(within(t)))
	s.held("n1 answers as a standby")
	s.p.WaitState("n1", "Primary (not writable)")
	s.alarmed("n1 answers as a standby")
	waiting := s.logIn()
	s.quiet(1500 * time.Millisecond)
	must(t, n1.Promote(within(t)))
	if got := at(t, s.served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.p.WaitState("n1", "Primary")
	s.same()
}

// patience is how long PostgreSQL waits for a backend that doesn't end before it
// kills it, and goes on with its recovery.
const patience = 5 * time.Second

// crash kills the backend of a client's session, which takes the whole server
// through crash recovery. A stopped backend keeps that from ending for as long as
// the server has patience, five seconds, or until release lets it go.
func crash(t *testing.T, n *pgtest.Node, client *pgtest.Client) (release func()) {
	t.Helper()
	held, err := n.Dial(within(t))
	must(t, err)
	t.Cleanup(func() { held.Close() })
	stopped := int(held.PID)
	killed, err := strconv.Atoi(mustQuery(t, client, "SELECT pg_backend_pid()")[0][0])
	must(t, err)
	must(t, syscall.Kill(stopped, syscall.SIGSTOP))
	must(t, syscall.Kill(killed, syscall.SIGKILL))
	return func() {
		// It is gone when the server has lost its patience, which does as well.
		if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

func TestAServerInCrashRecoveryIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	// The first probe may be faster than the postmaster's notice of the crash.
	s := play(t, c, plan{keys: map[string]string{"failover_probe_interval": "50ms", "health_check": "on", "health_check_period": "1s"}})
	s.opened("n1")
	n1 := c.Nodes[0]
	client := s.p.Connect()
	crashed := time.Now()
	release := crash(t, n1, client)
	s.seen("n1", "starting (57P03)")
	s.quiet(1500 * time.Millisecond) // thirty probes
	phase, server := s.word("Phase"), s.server("n1")
	if time.Since(crashed) < patience { // it is still in recovery, then
		says(t, server, "Probe", "starting (57P03)")
		if phase != "suspect" {
			t.Errorf("phase is %q, want suspect", phase)
		}
	}
	release()
	s.same()
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
}

func TestRecoveryThatOutlastsItsGraceIsADeath(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{
		"failover_probe_interval": "50ms", "failover_startup_grace": "500ms", "failover_restart_grace": "200ms",
		"health_check": "on", "health_check_period": "1s",
	}})
	s.opened("n1")
	n1 := c.Nodes[0]
	client := s.p.Connect()
	release := crash(t, n1, client)
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(n1, c.Nodes[1]), one(n1, c.Nodes[1]))
	release()
	s.p.WaitState("n1", "Failed (split brain)")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}
