package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// instead replaces a program of PostgreSQL, only for the hooks.
func (r *rig) instead(program, script string) {
	r.t.Helper()
	real := pgtest.Binary(program)
	bin, err := os.MkdirTemp("", "hooks") // t.TempDir is closed to other users
	r.must(err)
	r.t.Cleanup(func() { os.RemoveAll(bin) })
	r.must(os.Chmod(bin, 0o755))
	all, err := filepath.Glob(filepath.Dir(real) + "/*")
	r.must(err)
	for _, p := range all {
		if filepath.Base(p) != program {
			r.must(os.Symlink(p, filepath.Join(bin, filepath.Base(p))))
		}
	}
	path := filepath.Join(bin, program)
	r.must(os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	r.set("PG_BIN=" + bin)
}

// set appends lines to the settings; the last line for a name counts.
func (r *rig) set(lines ...string) {
	r.t.Helper()
	text, err := os.ReadFile(r.settings)
	r.must(err)
	r.must(os.WriteFile(r.settings, []byte(string(text)+strings.Join(lines, "\n")+"\n"), 0o600))
}

// beside are the files beside a data directory whose names begin with its name.
func beside(n *pgtest.Node) []string {
	list, _ := filepath.Glob(n.DataDir + ".*")
	return list
}

func TestRewindThatFailsIsFollowedByABaseBackup(t *testing.T) {
	r := newRig(t, 2)
	old, next, other := r.diverge()
	r.instead("pg_rewind", "echo it can not be rewound >&2; exit 1")
	out := r.mustRun("follow-new-primary.sh", old, next, other)
	if !strings.Contains(out, "it can not be rewound") {
		t.Errorf("pg_rewind was not tried:\n%s", out)
	}
	r.streams(other, next)
	if left := beside(other); len(left) != 1 || !strings.Contains(left[0], ".before-") {
		t.Errorf("beside the data directory there are %v; want the old one alone", left)
	}
}

func TestRewindThatWasInterruptedIsTakenUpByTheNextRun(t *testing.T) {
	r := newRig(t, 2, "ALLOW_BASEBACKUP=no")
	old, next, other := r.diverge()
	// The rewind is interrupted as by a time-out of the script, after the standby's
	// first own file is gone.
	r.instead("pg_rewind", `while [ "$1" != -D ]; do shift; done; rm "$2/standby.signal"; kill -KILL $PPID`)
	if out, code := r.run("follow-new-primary.sh", old, next, other); code == 0 {
		t.Fatalf("exit code 0 of a run that was interrupted\n%s", out)
	}
	r.set("PG_BIN=" + filepath.Dir(pgtest.Binary("pg_rewind")))
	if out := r.mustRun("follow-new-primary.sh", old, next, other); !strings.Contains(out, "rewound") {
		t.Errorf("it was not rewound:\n%s", out)
	}
	r.streams(other, next)
	if left := beside(other); len(left) != 0 {
		t.Errorf("left beside the data directory: %v", left)
	}
}

// inode identifies a directory, even if another one gets the same name.
func inode(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%i", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestDataDirectoryWithoutStandbySignalIsNeverReplaced(t *testing.T) {
	r := newRig(t, 2, "ALLOW_REWIND=no")
	old, next, other := r.diverge()
	r.must(os.Remove(filepath.Join(other.DataDir, "standby.signal")))
	before := inode(t, other.DataDir)
	out, code := r.run("follow-new-primary.sh", old, next, other)
	if code == 0 || !strings.Contains(out, "has no standby.signal: it is no standby's, so it is left alone") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if inode(t, other.DataDir) != before || len(beside(other)) != 0 || !other.Running() {
		t.Errorf("it was touched; beside it there are %v", beside(other))
	}
}

// The standby is promoted between the first check and the backup.
func TestStandbyThatIsPromotedMeanwhileIsNotReplaced(t *testing.T) {
	r := newRig(t, 2, "ALLOW_REWIND=no", "STREAM_WAIT=2")
	old, next, other := r.diverge()
	promote := fmt.Sprintf("%s promote -w -s -D %s", pgtest.Binary("pg_ctl"), other.DataDir)
	// psql with wanted points the standby to its new primary; the promotion comes right
	// after it.
	r.instead("psql", `case "$*" in *wanted=*) exec 3<&0; `+pgtest.Binary("psql")+` "$@" <&3; s=$?; `+promote+`; exit $s ;; esac
exec `+pgtest.Binary("psql")+` "$@"`)
	before := inode(t, other.DataDir)
	out, code := r.run("follow-new-primary.sh", old, next, other)
	if code == 0 || !strings.Contains(out, "left alone") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if inode(t, other.DataDir) != before || len(beside(other)) != 0 {
		t.Errorf("it was replaced; beside it there are %v", beside(other))
	}
}

// rejoining is a rig after a failover from n1 to n2, with the option on.
func rejoining(t *testing.T) (r *rig, old, next *pgtest.Node) {
	t.Helper()
	r = newRig(t, 1, "REJOIN_OLD_PRIMARY=yes", "PRIMARY_CONNINFO='user=postgres application_name=n1'")
	old, next = r.Nodes[0], r.Nodes[1]
	r.query(old, "CREATE TABLE before_failover()")
	r.must(next.WaitReplay(t.Context(), old))
	r.must(old.Kill())
	r.mustRun("promote-local.sh", old, next)
	return r, old, next
}

func TestOldPrimaryIsRejoinedWhereThatIsWanted(t *testing.T) {
	r, old, next := rejoining(t)
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "the old primary, streams from") {
		t.Errorf("nothing is said of it:\n%s", out)
	}
	r.streams(old, next)
	pid := old.PID()
	r.mustRun("follow-new-primary.sh", old, next)
	if old.PID() != pid || len(beside(old)) != 0 {
		t.Errorf("the second run changed postmaster %d to %d, and left %v", pid, old.PID(), beside(old))
	}
	if got := r.query(old, "SHOW recovery_target_timeline"); got != "latest" {
		t.Errorf("recovery_target_timeline = %s", got)
	}
}

func TestOldPrimaryThatRunsAgainIsRejoinedToo(t *testing.T) {
	r, old, next := rejoining(t)
	r.must(old.Start(t.Context()))
	r.query(old, "CREATE TABLE split_brain()")
	r.mustRun("follow-new-primary.sh", old, next)
	r.streams(old, next)
	if got := r.query(old, "SELECT string_agg(relname, ',') FROM pg_class WHERE relname IN ('split_brain', 'before_failover')"); got != "before_failover" {
		t.Errorf("it has %s", got)
	}
}

func TestNewPrimaryIsNeverTakenForTheOldOne(t *testing.T) {
	r, old, next := rejoining(t)
	r.set(fmt.Sprintf("SERVERS='%s %d %s'", old.Host, old.Port, next.DataDir))
	pid := next.PID()
	out := r.mustRun("follow-new-primary.sh", old, next)
	if !strings.Contains(out, "no former primary's, so it is left alone") || !strings.Contains(out, "is not rejoined") {
		t.Errorf("it doesn't say so:\n%s", out)
	}
	if next.PID() != pid || r.query(next, "SELECT pg_is_in_recovery()") != "f" {
		t.Error("the new primary was touched")
	}
}

func TestOldPrimaryWithoutAWayToConnectIsLeftAsItIs(t *testing.T) {
	r, old, next := rejoining(t)
	r.set("PRIMARY_CONNINFO=''")
	out := r.mustRun("follow-new-primary.sh", old, next)
	if !strings.Contains(out, "set PRIMARY_CONNINFO in hooks.conf") {
		t.Errorf("it doesn't say so:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(old.DataDir, "standby.signal")); err == nil || old.Running() || len(beside(old)) != 0 {
		t.Error("it was touched")
	}
}
