// Package hooks_test runs the example hooks against real servers.
package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

const generous = 60 * time.Second

// rig is a cluster with the settings of the hooks for it.
type rig struct {
	*pgtest.Cluster
	t        *testing.T
	settings string
}

func newRig(t *testing.T, standbys int, more ...string) *rig {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	server, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Primary().PID()))
	if err != nil {
		t.Fatal(err)
	}
	text := "SERVERS='\n"
	for _, n := range c.Nodes {
		text += fmt.Sprintf("%s %d %s\n", n.Host, n.Port, n.DataDir)
	}
	text += fmt.Sprintf("'\nPG_BIN=%s\nSTREAM_WAIT=8\n%s\n", filepath.Dir(server), strings.Join(more, "\n"))
	r := &rig{Cluster: c, t: t, settings: filepath.Join(t.TempDir(), "hooks.conf")}
	if err := os.WriteFile(r.settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs a hook with the addresses of nodes and returns its output and exit code.
func (r *rig) run(hook string, nodes ...*pgtest.Node) (string, int) {
	r.t.Helper()
	var args []string
	for _, n := range nodes {
		args = append(args, n.Host, strconv.Itoa(n.Port))
	}
	cmd := exec.CommandContext(r.t.Context(), "./"+hook, args...)
	cmd.Env = append(os.Environ(), "HOOKS_CONF="+r.settings)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (r *rig) mustRun(hook string, nodes ...*pgtest.Node) string {
	r.t.Helper()
	out, code := r.run(hook, nodes...)
	if code != 0 {
		r.t.Fatalf("%s: exit code %d\n%s", hook, code, out)
	}
	return out
}

func (r *rig) query(n *pgtest.Node, sql string) string {
	r.t.Helper()
	out, err := n.Query(r.t.Context(), sql)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// streams checks that n streams from the new primary and gets what is written there.
func (r *rig) streams(n, primary *pgtest.Node) {
	r.t.Helper()
	r.must(n.WaitStreaming(r.t.Context(), primary))
	r.query(primary, "CREATE TABLE after_failover()")
	pgtest.WaitUntil(r.t, generous, "the new table at "+n.Name, func() bool {
		return r.query(n, "SELECT count(*) FROM pg_class WHERE relname = 'after_failover'") == "1"
	})
}

func TestPromotionIsDoneOnceAndRepeatedWithoutHarm(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "f" {
		t.Errorf("in recovery after exit code 0: %s", got)
	}
	timeline := r.query(next, "SELECT pg_walfile_name(pg_current_wal_lsn())")[:8]
	if out := r.mustRun("promote-local.sh", old, next); !strings.Contains(out, "already") {
		t.Errorf("the second run says nothing of the first:\n%s", out)
	}
	if got := r.query(next, "SELECT pg_walfile_name(pg_current_wal_lsn())")[:8]; got != timeline {
		t.Errorf("timeline %s after the second run, %s after the first", got, timeline)
	}
}

func TestPromotionNamesWhatIsWrong(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	stranger := &pgtest.Node{Host: "127.0.0.1", Port: 1}
	if out, code := r.run("promote-local.sh", old, stranger); code == 0 || !strings.Contains(out, "no line for 127.0.0.1:1") {
		t.Errorf("unknown server: exit code %d\n%s", code, out)
	}
	if out, code := r.run("promote-local.sh", old); code == 0 || !strings.Contains(out, "four arguments") {
		t.Errorf("two arguments: exit code %d\n%s", code, out)
	}
	r.must(next.Stop(t.Context(), pgtest.Fast))
	if out, code := r.run("promote-local.sh", old, next); code == 0 || !strings.Contains(out, "no server runs") {
		t.Errorf("stopped server: exit code %d\n%s", code, out)
	}
}

func TestCommitsDontHangBetweenPromotionAndTheFirstStandby(t *testing.T) {
	r := newRig(t, 2, "SYNC_STANDBY_NAMES='ANY 1 (*)'")
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	for _, n := range r.Nodes {
		r.must(n.Set(t.Context(), "synchronous_standby_names", "ANY 1 (*)"))
	}
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	r.query(next, "CREATE TABLE alone()") // hangs if a standby is still waited for
	r.mustRun("follow-new-primary.sh", old, next, other)
	if got := r.query(next, "SHOW synchronous_standby_names"); got != "ANY 1 (*)" {
		t.Errorf("synchronous_standby_names = %q after the notify script", got)
	}
	r.streams(other, next)
}

func TestStandbyFollowsWithoutRestart(t *testing.T) {
	r := newRig(t, 2)
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	pid := other.PID()
	r.mustRun("follow-new-primary.sh", old, next, other)
	r.streams(other, next)
	conninfo := r.query(other, "SHOW primary_conninfo")
	if !strings.Contains(conninfo, "application_name=n3") || strings.Count(conninfo, "port=") != 1 {
		t.Errorf("primary_conninfo = %s", conninfo)
	}
	r.mustRun("follow-new-primary.sh", old, next, other)
	if again := r.query(other, "SHOW primary_conninfo"); again != conninfo || other.PID() != pid {
		t.Errorf("the second run changed %s to %s, postmaster %d to %d", conninfo, again, pid, other.PID())
	}
}

func TestStoppedStandbyIsStarted(t *testing.T) {
	r := newRig(t, 2)
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	r.must(other.Stop(t.Context(), pgtest.Fast))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	r.mustRun("follow-new-primary.sh", old, next, other)
	r.streams(other, next)
}

// diverge makes n3 replay WAL that n2, which is promoted, has never received.
func (r *rig) diverge() (old, next, other *pgtest.Node) {
	r.t.Helper()
	old, next, other = r.Nodes[0], r.Nodes[1], r.Nodes[2]
	r.must(next.Follow(r.t.Context(), "127.0.0.1", 1))
	pgtest.WaitUntil(r.t, generous, "the end of n2's stream", func() bool {
		return r.query(old, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'n2'") == "0"
	})
	r.query(old, "CREATE TABLE lost AS SELECT generate_series(1, 1000) i")
	r.must(other.WaitReplay(r.t.Context(), old))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	return old, next, other
}

func TestStandbyThatIsAheadIsRewound(t *testing.T) {
	r := newRig(t, 2, "ALLOW_BASEBACKUP=no")
	old, next, other := r.diverge()
	if out := r.mustRun("follow-new-primary.sh", old, next, other); !strings.Contains(out, "rewound") {
		t.Errorf("it was not rewound:\n%s", out)
	}
	r.streams(other, next)
	if got := r.query(other, "SELECT count(*) FROM pg_class WHERE relname = 'lost'"); got != "0" {
		t.Error("the standby still has what the new primary never had")
	}
}

func TestBaseBackupKeepsTheOldDataDirectory(t *testing.T) {
	r := newRig(t, 2, "ALLOW_REWIND=no")
	old, next, other := r.diverge()
	r.mustRun("follow-new-primary.sh", old, next, other)
	r.streams(other, next)
	kept, _ := filepath.Glob(other.DataDir + ".before-*/PG_VERSION")
	if len(kept) != 1 {
		t.Errorf("old data directories that were kept: %v", kept)
	}
}

func TestFormerPrimaryIsLeftAlone(t *testing.T) {
	r := newRig(t, 2)
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	out, code := r.run("follow-new-primary.sh", other, next, old, other)
	if code == 0 || !strings.Contains(out, "left alone") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(old.DataDir, "standby.signal")); err == nil || old.Running() {
		t.Error("the former primary was touched")
	}
	r.streams(other, next) // the standby after the failed one was processed all the same
}

func TestStandbyOfAnotherSystemIsLeftAlone(t *testing.T) {
	r := newRig(t, 2)
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	foreign := pgtest.New(t, pgtest.Options{OwnSystem: true})
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	r.must(os.WriteFile(r.settings, append(settings, fmt.Sprintf("SERVERS=\"$SERVERS\n%s %d %s\n\"\n",
		foreign.Nodes[0].Host, foreign.Nodes[0].Port, foreign.Nodes[0].DataDir)...), 0o600))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	before := r.query(other, "SHOW primary_conninfo")
	out, code := r.run("follow-new-primary.sh", old, foreign.Nodes[0], other)
	if code == 0 || !strings.Contains(out, "another database system") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if after := r.query(other, "SHOW primary_conninfo"); after != before {
		t.Errorf("primary_conninfo was %s and is %s", before, after)
	}
}

func TestNothingToDoWithoutStandbys(t *testing.T) {
	a, b := &pgtest.Node{Host: "a", Port: 1}, &pgtest.Node{Host: "b", Port: 2}
	r := &rig{t: t, settings: "/nonexistent"}
	if out, code := r.run("follow-new-primary.sh", a, b); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code := r.run("follow-new-primary.sh", a); code == 0 {
		t.Errorf("two arguments were taken:\n%s", out)
	}
}
