package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestPlannedSwitchoverStopsTheOldPrimaryFirst(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	r.query(old, "CREATE TABLE last_words()")
	t.Setenv("PGAGROAL_PLANNED", "on")
	r.mustRun("promote-local.sh", old, next)
	if _, err := old.Query(t.Context(), "SELECT 1"); err == nil {
		t.Error("the old primary still runs")
	}
	if got := r.query(next, "SELECT pg_is_in_recovery() OR to_regclass('last_words') IS NULL"); got != "f" {
		t.Error("the new primary is in recovery, or lacks what the old one wrote last")
	}
	r.mustRun("promote-local.sh", old, next) // a second run changes nothing
}

func TestPlannedSwitchoverReachesBothMachines(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(fakeSSH), 0o700))
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	text := strings.ReplaceAll(string(settings), next.DataDir+"\n", next.DataDir+" postgres@machine\n") + "SSH_COMMAND=" + there + "\n"
	r.must(os.WriteFile(r.settings, []byte(text), 0o600))
	t.Setenv("PGAGROAL_PLANNED", "on")
	if out, code := r.run("promote-ssh.sh", old, next); code == 0 || !strings.Contains(out, "no ssh destination") {
		t.Errorf("without a way to the old primary: exit code %d\n%s", code, out)
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "t" {
		t.Fatal("promoted although the old primary was not stopped")
	}
	text = strings.ReplaceAll(text, old.DataDir+"\n", old.DataDir+" postgres@machine\n")
	r.must(os.WriteFile(r.settings, []byte(text), 0o600))
	r.mustRun("promote-ssh.sh", old, next)
	if _, err := old.Query(t.Context(), "SELECT 1"); err == nil {
		t.Error("the old primary still runs")
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "f" {
		t.Error("the new one is in recovery")
	}
}

// planned is a rig after a planned switchover from n1 to n2.
func planned(t *testing.T) (r *rig, old, next *pgtest.Node) {
	t.Helper()
	r = newRig(t, 1, "PRIMARY_CONNINFO='user=postgres application_name=n1'")
	old, next = r.Nodes[0], r.Nodes[1]
	t.Setenv("PGAGROAL_PLANNED", "on")
	r.mustRun("promote-local.sh", old, next)
	return r, old, next
}

func TestPlannedSwitchoverThatLosesItsOldPrimaryFails(t *testing.T) {
	r, old, next := planned(t)
	r.edit(old, "postgresql.conf", "no_such_parameter = on")
	out, code := r.run("follow-new-primary.sh", old, next)
	if code == 0 || !strings.Contains(out, "does not start: see "+old.LogFile) || !strings.Contains(out, "these don't follow "+next.Addr()) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	conf := filepath.Join(old.DataDir, "postgresql.conf")
	text, err := os.ReadFile(conf)
	r.must(err)
	r.must(os.WriteFile(conf, []byte(strings.ReplaceAll(string(text), "no_such_parameter = on\n", "")), 0o600))
	r.mustRun("follow-new-primary.sh", old, next)
	r.streams(old, next)
}

// pg_rewind would need wal_log_hints or checksums, which a new cluster doesn't have.
func TestOldPrimaryOfAPlannedSwitchoverNeedsNoRewind(t *testing.T) {
	r, old, next := planned(t)
	r.instead("pg_rewind", "exit 1")
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "follows without pg_rewind") {
		t.Errorf("it doesn't say so:\n%s", out)
	}
	r.streams(old, next)
}

func TestOldPrimaryOfAPlannedSwitchoverThatWroteSinceIsRewound(t *testing.T) {
	r, old, next := planned(t)
	r.must(old.Start(t.Context()))
	r.query(old, "CREATE TABLE split_brain()")
	r.must(old.Stop(t.Context(), pgtest.Fast))
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "rewound") {
		t.Errorf("it was not rewound:\n%s", out)
	}
	r.streams(old, next)
}

func TestOldPrimaryStaysAsItIsWhereThatIsWanted(t *testing.T) {
	r, old, next := planned(t)
	r.set("REJOIN_OLD_PRIMARY=no")
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "stays as it is") || old.Running() {
		t.Errorf("running: %v\n%s", old.Running(), out)
	}
}
