package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestForcedFailoverStopsTheLivingPrimaryFirst(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	t.Setenv("PGAGROAL_FORCED", "on")
	t.Setenv("PGAGROAL_OLD_ALIVE", "on")
	r.set("STOP_COMMAND=true")
	if out, code := r.run("promote-local.sh", old, next); code == 0 || !strings.Contains(out, "still runs, so "+next.Addr()+" is not promoted") {
		t.Errorf("a primary that doesn't stop: exit code %d\n%s", code, out)
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "t" {
		t.Fatal("promoted beside a primary that runs")
	}
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	elsewhere := strings.ReplaceAll(string(settings), " "+old.DataDir+"\n", " /nonexistent\n")
	r.must(os.WriteFile(r.settings, []byte(elsewhere), 0o600))
	if out, code := r.run("promote-local.sh", old, next); code == 0 || !strings.Contains(out, "/nonexistent is no data directory that I can read") {
		t.Errorf("a primary that can't be stopped: exit code %d\n%s", code, out)
	}
	r.must(os.WriteFile(r.settings, settings, 0o600))
	r.set("STOP_COMMAND=")
	r.mustRun("promote-local.sh", old, next)
	if _, err := old.Query(t.Context(), "SELECT 1"); err == nil {
		t.Error("two primaries: the old one still runs")
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "f" {
		t.Error("the new one is in recovery")
	}
}

// By force a server is promoted although the machine of the old primary can't be reached,
// but not if that primary was seen alive.
func TestForcedFailoverOverSSHRefusesBesideALivingPrimary(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(fakeSSH), 0o700))
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	text := strings.ReplaceAll(string(settings), next.DataDir+"\n", next.DataDir+" postgres@machine\n") + "SSH_COMMAND=" + there + "\n"
	text = strings.ReplaceAll(text, old.DataDir+"\n", old.DataDir+" postgres@nowhere\n")
	r.must(os.WriteFile(r.settings, []byte(text), 0o600))
	t.Setenv("PGAGROAL_FORCED", "on")
	t.Setenv("PGAGROAL_OLD_ALIVE", "on")
	if out, code := r.run("promote-ssh.sh", old, next); code == 0 || !strings.Contains(out, "ssh to postgres@nowhere failed") {
		t.Errorf("the machine of a living primary can't be reached: exit code %d\n%s", code, out)
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "t" {
		t.Fatal("promoted beside a primary that runs")
	}
	r.must(os.WriteFile(r.settings, []byte(strings.ReplaceAll(text, "postgres@nowhere", "postgres@machine")), 0o600))
	r.mustRun("promote-ssh.sh", old, next)
	if _, err := old.Query(t.Context(), "SELECT 1"); err == nil {
		t.Error("two primaries: the old one still runs")
	}
}

func TestForcedFailoverGoesOnWithoutTheMachineOfADeadPrimary(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(fakeSSH), 0o700))
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	text := strings.ReplaceAll(string(settings), next.DataDir+"\n", next.DataDir+" postgres@machine\n") + "SSH_COMMAND=" + there + "\n"
	text = strings.ReplaceAll(text, old.DataDir+"\n", old.DataDir+" postgres@nowhere\n")
	r.must(os.WriteFile(r.settings, []byte(text), 0o600))
	r.must(old.Kill())
	t.Setenv("PGAGROAL_FORCED", "on")
	if out := r.mustRun("promote-ssh.sh", old, next); !strings.Contains(out, "can not be stopped, and I go on") {
		t.Errorf("nothing is said of the old primary:\n%s", out)
	}
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "f" {
		t.Error("the new one is in recovery")
	}
}
