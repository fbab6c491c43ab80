package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSSH takes the place of ssh: it runs the command on this machine as user postgres.
const fakeSSH = `#!/usr/bin/env bash
[ -z "${SSH_FAILS:-}" ] || exit 255
while [ "${1#-}" != "$1" ]; do
    case $1 in -o) shift 2 ;; *) shift ;; esac
done
[ "$1" = postgres@machine ] || exit 255
shift
if [ "$(id -u)" = 0 ]; then exec runuser -u postgres -- env -i PATH="$PATH" bash -c "$*"; fi
exec env -i PATH="$PATH" bash -c "$*"
`

func TestHooksReachOtherMachinesOverSSH(t *testing.T) {
	r := newRig(t, 2)
	bin := t.TempDir()
	r.must(os.WriteFile(filepath.Join(bin, "ssh"), []byte(fakeSSH), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	if out, code := r.run("promote-ssh.sh", old, next); code == 0 || !strings.Contains(out, "no ssh destination") {
		t.Errorf("without a destination: exit code %d\n%s", code, out)
	}
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	for _, n := range r.Nodes {
		settings = []byte(strings.ReplaceAll(string(settings), n.DataDir+"\n", n.DataDir+" postgres@machine\n"))
	}
	r.must(os.WriteFile(r.settings, settings, 0o600))
	r.must(old.Kill())
	t.Setenv("SSH_FAILS", "yes")
	if out, code := r.run("promote-ssh.sh", old, next); code == 0 || !strings.Contains(out, "ssh to postgres@machine failed") {
		t.Errorf("without a connection: exit code %d\n%s", code, out)
	}
	t.Setenv("SSH_FAILS", "")
	r.mustRun("promote-ssh.sh", old, next)
	if got := r.query(next, "SELECT pg_is_in_recovery()"); got != "f" {
		t.Errorf("in recovery after exit code 0: %s", got)
	}
	r.mustRun("follow-new-primary.sh", old, next, other)
	r.streams(other, next)
}

// A script doesn't get its user's environment, so the settings name the program in
// place of ssh.
func TestSettingsNameTheCommandForOtherMachines(t *testing.T) {
	r := newRig(t, 2, "REJOIN_OLD_PRIMARY=yes", "PRIMARY_CONNINFO='user=postgres'")
	old, next, other := r.Nodes[0], r.Nodes[1], r.Nodes[2]
	there := filepath.Join(t.TempDir(), "elsewhere")
	r.must(os.WriteFile(there, []byte(fakeSSH), 0o700))
	settings, err := os.ReadFile(r.settings)
	r.must(err)
	text := strings.NewReplacer(
		old.DataDir+"\n", old.DataDir+" postgres@nowhere\n",
		next.DataDir+"\n", next.DataDir+" postgres@machine\n",
		other.DataDir+"\n", other.DataDir+" postgres@machine\n",
	).Replace(string(settings))
	r.must(os.WriteFile(r.settings, []byte(text+"SSH_COMMAND='"+there+" -o Something=5 -T'\n"), 0o600))
	r.must(old.Kill())
	r.mustRun("promote-ssh.sh", old, next)
	// The machine of the old primary can't be reached, which doesn't make the run fail.
	out := r.mustRun("follow-new-primary.sh", old, next, other)
	if !strings.Contains(out, "is not rejoined") || !strings.Contains(out, "postgres@nowhere failed") {
		t.Errorf("nothing is said of the old primary:\n%s", out)
	}
	r.streams(other, next)
}
