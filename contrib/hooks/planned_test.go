package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
