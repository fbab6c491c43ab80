package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// edit appends a line to a file of the node's data directory.
func (r *rig) edit(n *pgtest.Node, file, line string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(n.DataDir, file), os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	_, err = f.WriteString(line + "\n")
	r.must(err)
	r.must(f.Close())
}

// failRejoin runs the notify script with a pg_rewind that fails.
func (r *rig) failRejoin(old, next *pgtest.Node) {
	r.t.Helper()
	r.instead("pg_rewind", "echo it can not be rewound >&2; exit 1")
	out := r.mustRun("follow-new-primary.sh", old, next)
	if !strings.Contains(out, "is not rejoined") || !strings.Contains(out, old.DataDir+".settings-kept says so") {
		r.t.Fatalf("the failed rejoin, and what it leaves, are not told of:\n%s", out)
	}
	r.set("PG_BIN=" + filepath.Dir(pgtest.Binary("pg_rewind")))
}

// edited checks that the node streams with the setting that was edited, and that nothing
// of the attempt is left.
func (r *rig) edited(old, next *pgtest.Node) {
	r.t.Helper()
	r.streams(old, next)
	if got := r.query(old, "SHOW log_min_duration_statement"); got != "4711ms" {
		r.t.Errorf("log_min_duration_statement = %s: an old postgresql.conf came back", got)
	}
	if left := beside(old); len(left) != 0 {
		r.t.Errorf("left beside the data directory: %v", left)
	}
}

func TestRejoinAfterAFailedOneKeepsWhatWasEditedMeanwhile(t *testing.T) {
	r, old, next := rejoining(t)
	r.failRejoin(old, next)
	r.edit(old, "postgresql.conf", "log_min_duration_statement = 4711")
	r.mustRun("follow-new-primary.sh", old, next)
	r.edited(old, next)
}

func TestWhatAFailedRejoinKeptIsForgottenWhenTheServerWasStarted(t *testing.T) {
	r, old, next := rejoining(t)
	r.failRejoin(old, next)
	r.must(old.Start(t.Context()))
	r.edit(old, "postgresql.conf", "log_min_duration_statement = 4711")
	r.must(old.Kill())
	out := r.mustRun("follow-new-primary.sh", old, next)
	if !strings.Contains(out, ".settings-kept is of an earlier attempt, and the server was started since: it is removed, not used") {
		t.Errorf("nothing is said of it:\n%s", out)
	}
	r.edited(old, next)
}

// A server that was mended by hand streams already: what was kept goes with that success.
func TestWhatAFailedRejoinKeptGoesWhenTheServerStreams(t *testing.T) {
	r, old, next := rejoining(t)
	r.failRejoin(old, next)
	r.edit(old, "postgresql.conf", "log_min_duration_statement = 4711")
	r.must(old.Rejoin(t.Context(), next))
	r.edit(old, "postgresql.auto.conf", "log_min_duration_statement = 4711")
	r.query(old, "SELECT pg_reload_conf()")
	r.must(old.WaitStreaming(t.Context(), next))
	r.mustRun("follow-new-primary.sh", old, next)
	r.edited(old, next)
}

func TestFileThatWasEditedAfterAnInterruptionIsNotOverwritten(t *testing.T) {
	r, old, next := rejoining(t)
	r.instead("pg_rewind", "kill -KILL $PPID")
	r.run("follow-new-primary.sh", old, next)
	r.set("PG_BIN=" + filepath.Dir(pgtest.Binary("pg_rewind")))
	kept := old.DataDir + ".settings-kept"
	if _, err := os.Stat(filepath.Join(kept, "postgresql.conf")); err != nil {
		t.Fatalf("the interrupted attempt has left nothing: %v", err)
	}
	r.edit(old, "postgresql.conf", "log_min_duration_statement = 4711")
	out := r.mustRun("follow-new-primary.sh", old, next)
	if !strings.Contains(out, "postgresql.conf was changed since then") || !strings.Contains(out, "is not rejoined") {
		t.Errorf("it doesn't say so:\n%s", out)
	}
	text, err := os.ReadFile(filepath.Join(old.DataDir, "postgresql.conf"))
	r.must(err)
	if !strings.Contains(string(text), "4711") {
		t.Fatal("the edited file was overwritten")
	}
	r.must(os.WriteFile(filepath.Join(kept, "postgresql.conf"), text, 0o600))
	if out := r.mustRun("follow-new-primary.sh", old, next); !strings.Contains(out, "was interrupted: it is taken up") {
		t.Errorf("nothing is said of the earlier attempt:\n%s", out)
	}
	r.edited(old, next)
}
