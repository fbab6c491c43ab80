package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// checking is a rig whose primary works, as in a rehearsal, with hooks that check.
func checking(t *testing.T, standbys int, more ...string) *rig {
	t.Helper()
	r := newRig(t, standbys, append(more, "PRIMARY_CONNINFO='user=postgres application_name=n1'")...)
	t.Setenv("PGAGROAL_CHECK", "1")
	return r
}

// untouched checks that the check has changed nothing: who is a primary, which files there are, who runs.
func (r *rig) untouched() func() {
	r.t.Helper()
	look := func() string {
		out := ""
		for _, n := range r.Nodes {
			out += fmt.Sprintln(n.Name, n.PID(), beside(n))
			if n.Running() {
				out += fmt.Sprintln(r.query(n, "SELECT pg_is_in_recovery(), current_setting('primary_conninfo'), current_setting('synchronous_standby_names')"))
			}
			for _, f := range []string{"standby.signal", "postgresql.auto.conf", "postmaster.opts"} {
				info, err := os.Stat(filepath.Join(n.DataDir, f))
				if err == nil {
					out += fmt.Sprintln(f, info.Size(), info.ModTime())
				}
			}
		}
		return out
	}
	before := look()
	return func() {
		r.t.Helper()
		if after := look(); after != before {
			r.t.Errorf("a check has changed\n%sto\n%s", before, after)
		}
	}
}

// declaresCheck is what the script runner looks for before it executes a script for a check.
func TestExampleHooksDeclareThatTheyCheck(t *testing.T) {
	for _, f := range []string{"promote-local.sh", "promote-ssh.sh", "follow-new-primary.sh"} {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "#!/usr/bin/env bash\n# pgagroal: check\n") {
			t.Errorf("%s doesn't", f)
		}
	}
}

func TestCheckOfASoundSetupPassesAndChangesNothing(t *testing.T) {
	r := checking(t, 2, "REJOIN_OLD_PRIMARY=yes", "SYNC_STANDBY_NAMES='ANY 1 (*)'")
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	same := r.untouched()
	r.mustRun("promote-local.sh", old, next)
	out := r.mustRun("follow-new-primary.sh", old, next, other)
	if strings.Count(out, "can be made to follow") != 2 {
		t.Errorf("not both servers were looked at:\n%s", out)
	}
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(fakeSSH), 0o700))
	r.onMachines(there, r.Nodes...)
	r.mustRun("promote-ssh.sh", old, next)
	r.mustRun("follow-new-primary.sh", old, next, other)
	same()
}

// onMachines has these servers on another machine.
func (r *rig) onMachines(ssh string, nodes ...*pgtest.Node) {
	r.t.Helper()
	text, err := os.ReadFile(r.settings)
	r.must(err)
	for _, n := range nodes {
		text = []byte(strings.ReplaceAll(string(text), n.DataDir+"\n", n.DataDir+" postgres@machine\n"))
	}
	r.must(os.WriteFile(r.settings, append(text, "SSH_COMMAND="+ssh+"\n"...), 0o600))
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	r := checking(t, 2)
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	sound, err := os.ReadFile(r.settings)
	r.must(err)
	same := r.untouched()
	for _, c := range []struct{ hook, set, says string }{
		{"promote-local.sh", "SERVERS=''", "has no line for " + old.Addr()},
		{"promote-local.sh", "SERVERS=\"${SERVERS//" + filepath.Base(filepath.Dir(next.DataDir)) + "\\/data/nowhere}\"", "is no data directory"},
		{"promote-local.sh", "PG_BIN=/nonexistent", "pg_ctl can't be executed"},
		{"promote-ssh.sh", "", "no ssh destination for " + next.Addr()},
		{"follow-new-primary.sh", "PG_BIN=/nonexistent", "psql can't be executed"},
		{"follow-new-primary.sh", "ADMIN_CONNINFO='user=nobody dbname=postgres'", "can't log in to " + next.Addr()},
		{"follow-new-primary.sh", "SERVERS=\"" + other.Addr() + "\"", "has no line for " + other.Addr()},
		{"follow-new-primary.sh", "PRIMARY_CONNINFO=''", "set PRIMARY_CONNINFO in hooks.conf"},
	} {
		r.must(os.WriteFile(r.settings, append(sound[:len(sound):len(sound)], c.set+"\n"...), 0o600))
		nodes := []*pgtest.Node{old, next}
		if c.hook == "follow-new-primary.sh" {
			nodes = append(nodes, other)
		}
		if out, code := r.run(c.hook, nodes...); code != 1 || !strings.Contains(out, c.says) {
			t.Errorf("%s with %s: exit code %d; it doesn't say %q\n%s", c.hook, c.set, code, c.says, out)
		}
	}
	r.must(os.Remove(r.settings))
	if out, code := r.run("promote-local.sh", old, next); code != 1 || !strings.Contains(out, "can't read "+r.settings) {
		t.Errorf("without settings: exit code %d\n%s", code, out)
	}
	same()
}

func TestCheckFindsAMachineThatCannotBeReached(t *testing.T) {
	r := checking(t, 1)
	old, next := r.Nodes[0], r.Nodes[1]
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(strings.ReplaceAll(fakeSSH, "postgres@machine ] ||", "postgres@machine ] && false ||")), 0o700))
	r.onMachines(there, r.Nodes...)
	for _, hook := range []string{"promote-ssh.sh", "follow-new-primary.sh"} {
		if out, code := r.run(hook, old, next); code != 1 || !strings.Contains(out, "ssh to postgres@machine failed") {
			t.Errorf("%s: exit code %d\n%s", hook, code, out)
		}
	}
}
