package test

import (
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// hasty are keys for tests that aren't about how a death is seen.
func hasty(more map[string]string) map[string]string {
	keys := map[string]string{"failover_probe_interval": "50ms", "failover_kill_delay": "200ms"}
	for k, v := range more {
		keys[k] = v
	}
	return keys
}

// contract starts a scene in front of a cluster, open on n1.
func contract(t testing.TB, standbys int, pl plan) *scene {
	t.Helper()
	pl.keys = hasty(pl.keys)
	s := play(t, pgtest.New(t, pgtest.Options{Standbys: standbys}), pl)
	s.opened("n1")
	if pl.keys["failover"] != "off" {
		s.p.WaitLog("script runner is ready") // it has looked at the scripts
	}
	return s
}

// kill ends a node and all that runs for it, with a client on it whose end is seen.
func (s *scene) kill(i int) {
	s.t.Helper()
	s.p.Connect()
	must(s.t, s.node(i).Kill())
}

// dump is a file of the hooks directory, waited for, without the last newline.
func (s *scene) dump(name string) string {
	s.t.Helper()
	var text string
	pgtest.WaitUntil(s.t, generous, "the file "+name, func() bool {
		data, err := os.ReadFile(filepath.Join(s.p.Dir, "hooks", name))
		text = strings.TrimSuffix(string(data), "\n")
		return err == nil && strings.HasSuffix(string(data), "\n")
	}, s.p.Log)
	return text
}

func TestScriptsGetHostsExactlyAsConfigured(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{
		Standbys: 3, Extra: map[string]string{"listen_addresses": "127.0.0.1,::1"},
		HBA: []string{"host all all 127.0.0.1/32 trust", "host all all ::1/128 trust", "host replication all 127.0.0.1/32 trust"},
	})
	off := map[string]string{"failover_candidate": "off"}
	servers := []Server{
		{Name: "$(id) 1", Host: "localhost", Port: c.Nodes[0].Port},
		{Name: "-n", Host: "127.0.0.1", Port: c.Nodes[3].Port, More: off},
		{Name: "the second", Host: "::1", Port: c.Nodes[1].Port},
		{Name: "n3", Host: "localhost", Port: c.Nodes[2].Port, More: off},
	}
	s := play(t, c, plan{servers: servers, keys: hasty(nil), script: `echo "$PGAGROAL_OLD_NAME>$PGAGROAL_NEW_NAME"` + "\n" + promote(c)})
	s.opened("$(id) 1")
	s.kill(1)
	s.notify.WaitRuns(1)
	four := argsOf(servers[0], servers[2])
	s.ran([][]string{four}, [][]string{slices.Concat(four, argsOf(servers[1], servers[3]))})
	says(t, s.told("failover"), "output", "$(id) 1>the second")
	s.opened("the second")
}

func TestNotifyGetsFourArgumentsWhenThereIsNoOtherStandby(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	s.kill(1)
	s.notify.WaitRuns(1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestNotifyLeavesServersOutThatAreFailed(t *testing.T) {
	t.Parallel()
	s := contract(t, 3, plan{})
	s.kill(1)
	next := s.successor("n1")
	var rest []*pgtest.Node
	for _, n := range s.c.Nodes[1:] {
		if n != next {
			s.follow(n, next)
			rest = append(rest, n)
		}
	}
	s.p.Connect()
	must(t, next.Kill())
	last, other := s.successor(next.Name), rest[0]
	if other == last {
		other = rest[1]
	}
	told := s.notify.WaitRuns(2)
	if diff := cmp.Diff(args(next, last, other), told[1]); diff != "" {
		t.Errorf("the second notification (-want +got):\n%s", diff)
	}
	if s.p.State("n1") != "Failed" {
		t.Errorf("n1 is %s, want Failed", s.p.State("n1"))
	}
}

// successor waits until the pool is open on another node, and returns that.
func (s *scene) successor(old string) *pgtest.Node {
	s.t.Helper()
	var name string
	pgtest.WaitUntil(s.t, generous, "a successor of "+old, func() bool {
		st := s.status()
		name = fmt.Sprint(st["Primary"])
		return name != old && st["Phase"] == "open" && st["Held"] == false
	}, s.p.Log)
	for _, n := range s.c.Nodes {
		if n.Name == name {
			return n
		}
	}
	s.t.Fatalf("%s is no node", name)
	return nil
}

// process is the body of a script that notes what it is.
const process = `d=$(dirname "$0")
cat > "$d/stdin"
cat /proc/$$/environ > "$d/environ"
{ id -u; pwd; umask; echo "$$" $(cut -d' ' -f5,6 /proc/$$/stat); ps -o tty= -p $$; ulimit -c; } > "$d/process.tmp"
(ls -l /proc/$$/fd >> "$d/process.tmp")
mv "$d/process.tmp" "$d/process"
`

func TestScriptGetsACleanProcess(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil), script: process + promote(c)})
	s.p.Run("SECRET_OF_OURS=1", "PGAGROAL_ANYTHING=1", "NOTIFY_SOCKET="+s.p.path("nobody"))
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	if got, err := os.ReadFile(filepath.Join(s.p.Dir, "hooks", "stdin")); err != nil || len(got) > 0 {
		t.Errorf("standard input gave %q, %v; want nothing", got, err)
	}
	lines := strings.Split(s.dump("process"), "\n")
	uid := fmt.Sprint(os.Geteuid())
	if u := servingUser(t); u != nil {
		uid = fmt.Sprint(u.Uid)
	}
	ids := strings.Fields(lines[3])
	if lines[0] != uid || lines[1] != "/" || lines[2] != "0077" || lines[4] != "?" || lines[5] != "0" {
		t.Errorf("user, directory, umask, ids, terminal, core limit: %q", lines[:6])
	}
	if ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("process, group and session are %v, want them equal", ids)
	}
	wantDescriptors(t, lines[6:], s.failover.Path)
}

// wantDescriptors reads what ls says: 0 is nothing, 1 and 2 are one pipe, and the
// shell itself keeps its script open.
func wantDescriptors(t testing.TB, lines []string, script string) {
	t.Helper()
	open := map[string]string{}
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) > 3 && f[len(f)-2] == "->" && f[len(f)-1] != script {
			open[f[len(f)-3]] = f[len(f)-1]
		}
	}
	want := map[string]string{"0": "/dev/null", "1": open["2"], "2": open["2"]}
	if diff := cmp.Diff(want, open); diff != "" || !strings.HasPrefix(open["2"], "pipe:") {
		t.Errorf("descriptors %v, want nothing and a pipe twice", open)
	}
}

func TestScriptGetsTheDocumentedEnvironmentAndNothingElse(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil), script: process + promote(c), notify: `cat /proc/$$/environ > "$0.environ"`})
	s.p.Run("SECRET_OF_OURS=1", "PGAGROAL_ANYTHING=1", "LANG=", "NOTIFY_SOCKET="+s.p.path("nobody"))
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	s.dump("process")
	got := environment(t, filepath.Join(s.p.Dir, "hooks", "environ"))
	home := userOf(t)
	run := s.told("failover")
	want := map[string]string{
		"PATH": os.Getenv("PATH"), "LANG": "C.UTF-8", "HOME": home.HomeDir, "USER": home.Username,
		"PGAGROAL_RUN_ID": fmt.Sprint(run["run_id"]), "PGAGROAL_HOOK": "failover", "PGAGROAL_EPOCH": "1",
		"PGAGROAL_OLD_NAME": "n1", "PGAGROAL_NEW_NAME": "n2", "PGAGROAL_TIMELINE": "1",
		"PGAGROAL_REASON": fmt.Sprint(run["reason"]), "PGAGROAL_LSN": fmt.Sprint(run["lsn"]), "PGAGROAL_LSN_AGE": got["PGAGROAL_LSN_AGE"],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if !strings.Contains(got["PGAGROAL_LSN_AGE"], ".") || want["PGAGROAL_RUN_ID"] == "" {
		t.Errorf("age %q of the last position, run id %q", got["PGAGROAL_LSN_AGE"], want["PGAGROAL_RUN_ID"])
	}
	s.told("notify")
	page := slices.DeleteFunc(documentedVariables(t), func(name string) bool {
		return name == "PGAGROAL_PLANNED" // of planned switchovers alone
	})
	for hook, env := range map[string]map[string]string{"failover": got, "notify": environment(t, s.notify.Path+".environ")} {
		names := slices.Sorted(maps.Keys(env))
		if diff := cmp.Diff(page, names); diff != "" {
			t.Errorf("variables of %s (-page +script):\n%s", hook, diff)
		}
		if env["PGAGROAL_HOOK"] != hook {
			t.Errorf("PGAGROAL_HOOK of %s is %q", hook, env["PGAGROAL_HOOK"])
		}
	}
}

// environment reads what a script has kept of /proc/self/environ.
func environment(t testing.TB, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	env := map[string]string{}
	for _, v := range strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		if _, twice := env[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		env[name] = value
	}
	return env
}

// documentedVariables are those of the chapter ENVIRONMENT of pgagroal-hooks(7).
func documentedVariables(t testing.TB) []string {
	t.Helper()
	page, err := os.ReadFile("../man/pgagroal-hooks.7")
	must(t, err)
	_, chapter, ok := strings.Cut(string(page), "\n.Sh ENVIRONMENT\n")
	if !ok {
		t.Fatal("pgagroal-hooks(7) has no chapter ENVIRONMENT")
	}
	chapter, _, _ = strings.Cut(chapter, "\n.Sh ")
	var names []string
	for line := range strings.Lines(chapter) {
		if list, ok := strings.CutPrefix(line, ".It Ev "); ok {
			names = append(names, strings.Fields(strings.ReplaceAll(list, ",", ""))...)
		}
	}
	slices.Sort(names)
	return names
}

// userOf is the account that scripts run as.
func userOf(t testing.TB) *user.User {
	t.Helper()
	u, err := user.Current()
	if servingUser(t) != nil {
		u, err = user.Lookup("postgres")
	}
	must(t, err)
	return u
}
