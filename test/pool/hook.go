package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// gated is the body of a script that waits for a file before it goes on. It also ends
// without the file, because a test that has failed never makes it.
func gated(file, body string) string {
	return fmt.Sprintf("for i in $(seq 1000); do [ -e %[1]s ] && break; sleep 0.05; done\n[ -e %[1]s ] || exit 1\n%[2]s", file, body)
}

// HastyKeys are keys for tests in which it doesn't matter how a death is detected.
func HastyKeys(more map[string]string) map[string]string {
	keys := map[string]string{"failover_probe_interval": "50ms", "failover_kill_delay": "200ms"}
	for k, v := range more {
		keys[k] = v
	}
	return keys
}

// Hook is a script that records its arguments and then does what Body says.
type Hook struct {
	t    testing.TB
	Path string
	log  string
}

// Hook writes a script that appends its arguments, one run per line and each in
// brackets, to a file, and then runs body.
func (p *Pool) Hook(name, body string) *Hook {
	p.T.Helper()
	h := &Hook{t: p.T, Path: filepath.Join(p.Dir, "hooks", name), log: filepath.Join(p.Dir, "hooks", name+".runs")}
	script := fmt.Sprintf("#!/bin/sh\nline=\"\"\nfor a in \"$@\"; do line=\"$line[$a]\"; done\necho \"$line\" >> %s\n%s\n", h.log, body)
	WriteFile(p.T, h.Path, script, 0o755)
	return h
}

// Runs returns the arguments of each run so far.
func (h *Hook) Runs() [][]string {
	h.t.Helper()
	data, err := os.ReadFile(h.log)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		line, whole := strings.CutSuffix(line, "]\n")
		if !whole {
			break // the shell has created the file, and will write to it next
		}
		out = append(out, strings.Split(strings.TrimPrefix(line, "["), "]["))
	}
	return out
}

// WaitRuns waits until the hook was started n times.
func (h *Hook) WaitRuns(n int) [][]string {
	h.t.Helper()
	pgtest.WaitUntil(h.t, Generous, fmt.Sprintf("%d runs of %s", n, filepath.Base(h.Path)), func() bool { return len(h.Runs()) >= n })
	return h.Runs()
}

// PromoteScript is the body of a hook that promotes the node that listens on the port
// in the hook's fourth argument.
func PromoteScript(c *pgtest.Cluster) string {
	var b strings.Builder
	b.WriteString("case $4 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) data=%s ;;\n", n.Port, n.DataDir)
	}
	b.WriteString("*) exit 9 ;;\nesac\n")
	fmt.Fprintf(&b, "exec %s promote -w -s -D \"$data\"\n", pgtest.Binary("pg_ctl"))
	return b.String()
}

// DemoteScript is the body of a hook for a planned switchover. It makes the old primary a standby of
// the new one, in order: stopped, so that the new one has everything, then started again behind it.
func DemoteScript(c *pgtest.Cluster) string {
	var b strings.Builder
	b.WriteString("test \"$PGAGROAL_PLANNED\" = on || exit 8\ncase $2 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) old=%s ;;\n", n.Port, n.DataDir)
	}
	b.WriteString("esac\ncase $4 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) new=%s ;;\n", n.Port, n.DataDir)
	}
	ctl := pgtest.Binary("pg_ctl")
	fmt.Fprintf(&b, `esac
%[1]s stop -w -s -m fast -D "$old" || exit 5
%[1]s promote -w -s -D "$new" || exit 6
touch "$old/standby.signal"
echo "primary_conninfo = 'host=$3 port=$4 user=postgres'" >> "$old/postgresql.auto.conf"
%[1]s start -w -s -D "$old" -l "$old/again.log" >/dev/null 2>&1 </dev/null || exit 7
`, ctl)
	return b.String()
}

// RunArgs are the arguments that a failover from one node to another gives.
func RunArgs(ns ...*pgtest.Node) []string {
	var out []string
	for _, n := range ns {
		out = append(out, n.Host, fmt.Sprint(n.Port))
	}
	return out
}

// FailoverKeys are the keys of a pool that fails over quickly. A worker that is late only because
// the machine is busy isn't killed, which would cost its clients, and a server that is late isn't
// silent.
func FailoverKeys(more map[string]string) map[string]string {
	keys := map[string]string{
		"failover": "on", "failover_restart_grace": "2s", "health_check_user": "postgres",
		"fence_timeout": "10s", "failover_probe_timeout": "10s",
	}
	for k, v := range more {
		keys[k] = v
	}
	return keys
}
