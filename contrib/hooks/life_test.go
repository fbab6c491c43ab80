package hooks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// byHand runs a shell command as the owner of the data, in a directory.
func (r *rig) byHand(dir, command string) *exec.Cmd {
	r.t.Helper()
	who, err := pgtest.Credential()
	r.must(err)
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(pgtest.Binary("pg_ctl"))+":"+os.Getenv("PATH"))
	return cmd
}

// orphan starts a server whose parent never waits for it.
func (r *rig) orphan(n *pgtest.Node) {
	r.t.Helper()
	parent := r.byHand(n.DataDir, "postgres -D "+n.DataDir+" >>"+n.LogFile+" 2>&1 & exec sleep 1h")
	r.must(parent.Start())
	r.t.Cleanup(func() {
		_ = parent.Process.Kill()
		_ = parent.Wait()
	})
	pgtest.WaitUntil(r.t, generous, "start of "+n.Name, func() bool {
		_, err := n.Query(r.t.Context(), "SELECT 1")
		return err == nil
	})
}

// logGoesOn checks that the server writes to the given log, and to none of its own.
func (r *rig) logGoesOn(n *pgtest.Node, path string, before int) {
	r.t.Helper()
	text, err := os.ReadFile(path)
	r.must(err)
	if after := string(text[before:]); !strings.Contains(after, "started streaming WAL from primary") {
		r.t.Errorf("the log of the standby isn't in %s, which got only:\n%s", path, after)
	}
	if _, err := os.Stat(filepath.Join(n.DataDir, "log-after-failover")); err == nil {
		r.t.Error("the log has moved to log-after-failover")
	}
}

func size(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

func TestServerThatWasStartedWithRelativePathsIsRejoined(t *testing.T) {
	r := newRig(t, 1, "REJOIN_OLD_PRIMARY=yes", "PRIMARY_CONNINFO='user=postgres application_name=n1'")
	old, next := r.Nodes[0], r.Nodes[1]
	r.must(old.Stop(t.Context(), pgtest.Fast))
	dir, name := filepath.Split(old.DataDir)
	out, err := r.byHand(dir, "pg_ctl start -w -D "+name+" -l "+name+".own-log -o '-c hba_file="+name+"/pg_hba.conf' >/dev/null").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.must(next.WaitStreaming(t.Context(), old))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	before := size(t, old.DataDir+".own-log")
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "it was started with relative paths") {
		t.Errorf("nothing is said of the paths:\n%s", out)
	}
	r.streams(old, next)
	r.logGoesOn(old, old.DataDir+".own-log", before)
	if got := r.query(old, "SHOW hba_file"); got != filepath.Join(old.DataDir, "pg_hba.conf") {
		t.Errorf("hba_file = %s", got)
	}
}

// The parent of the server never waits for it, as in a container without an init.
func TestServerThatIsAZombieIsRejoined(t *testing.T) {
	r := newRig(t, 1, "REJOIN_OLD_PRIMARY=yes", "PRIMARY_CONNINFO='user=postgres application_name=n1'")
	old, next := r.Nodes[0], r.Nodes[1]
	r.must(old.Stop(t.Context(), pgtest.Fast))
	r.orphan(old)
	r.must(next.WaitStreaming(t.Context(), old))
	r.must(syscall.Kill(old.PID(), syscall.SIGKILL))
	r.mustRun("promote-local.sh", old, next)
	before := size(t, old.LogFile)
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "is a zombie") {
		t.Errorf("nothing is said of the zombie:\n%s", out)
	}
	r.streams(old, next)
	r.logGoesOn(old, old.LogFile, before)
}

func TestZombieIsNoServerThatCouldBePromoted(t *testing.T) {
	r := newRig(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	r.must(next.Stop(t.Context(), pgtest.Fast))
	r.orphan(next)
	r.must(next.WaitStreaming(t.Context(), old))
	r.must(syscall.Kill(next.PID(), syscall.SIGKILL))
	if out, code := r.run("promote-local.sh", old, next); code == 0 || !strings.Contains(out, "no server runs") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestLogOfAServerThatIsDownIsFound(t *testing.T) {
	r, old, next := rejoining(t)
	before := size(t, old.LogFile)
	r.mustRun("follow-new-primary.sh", old, next)
	r.streams(old, next)
	r.logGoesOn(old, old.LogFile, before)
}

func TestLogOfTheCollectorStaysWhereItWas(t *testing.T) {
	r := newRig(t, 1, "REJOIN_OLD_PRIMARY=yes", "PRIMARY_CONNINFO='user=postgres application_name=n1'")
	old, next := r.Nodes[0], r.Nodes[1]
	r.must(old.Stop(t.Context(), pgtest.Fast))
	r.edit(old, "postgresql.conf", "logging_collector = on\nlog_directory = 'own'\nlog_filename = 'own.log'")
	r.must(old.Start(t.Context()))
	r.must(next.WaitStreaming(t.Context(), old))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	r.mustRun("follow-new-primary.sh", old, next)
	r.streams(old, next)
	r.logGoesOn(old, filepath.Join(old.DataDir, "own", "own.log"), 0)
}
