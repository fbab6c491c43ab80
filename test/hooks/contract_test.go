package hooks

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestScriptsGetHostsExactlyAsConfigured(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{
		Standbys: 3, Extra: map[string]string{"listen_addresses": "127.0.0.1,::1"},
		HBA: []string{"host all all 127.0.0.1/32 trust", "host all all ::1/128 trust", "host replication all 127.0.0.1/32 trust"},
	})
	off := map[string]string{"failover_candidate": "off"}
	servers := []pool.Server{
		{Name: "$(id) 1", Host: "localhost", Port: c.Nodes[0].Port},
		{Name: "-n", Host: "127.0.0.1", Port: c.Nodes[3].Port, More: off},
		{Name: "the second", Host: "::1", Port: c.Nodes[1].Port},
		{Name: "n3", Host: "localhost", Port: c.Nodes[2].Port, More: off},
	}
	s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: pool.HastyKeys(nil), Script: `echo "$PGAGROAL_OLD_NAME>$PGAGROAL_NEW_NAME"` + "\n" + pool.PromoteScript(c)})
	s.Opened("$(id) 1")
	s.Kill(1)
	s.Notify.WaitRuns(1)
	four := pool.RunArgsOf(servers[0], servers[2])
	s.Ran([][]string{four}, [][]string{slices.Concat(four, pool.RunArgsOf(servers[1], servers[3]))})
	pool.Says(t, s.Told("failover"), "output", "$(id) 1>the second")
	s.Opened("the second")
}

func TestNotifyGetsFourArgumentsWhenThereIsNoOtherStandby(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	s.Kill(1)
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestNotifyLeavesServersOutThatAreFailed(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 3, pool.Plan{})
	s.Kill(1)
	next := successor(s, "n1")
	var rest []*pgtest.Node
	for _, n := range s.Cluster.Nodes[1:] {
		if n != next {
			s.Follow(n, next)
			rest = append(rest, n)
		}
	}
	s.Pool.Connect()
	pool.Must(t, next.Kill())
	last, other := successor(s, next.Name), rest[0]
	if other == last {
		other = rest[1]
	}
	told := s.Notify.WaitRuns(2)
	if diff := cmp.Diff(pool.RunArgs(next, last, other), told[1]); diff != "" {
		t.Errorf("the second notification (-want +got):\n%s", diff)
	}
	if s.Pool.State("n1") != "Failed" {
		t.Errorf("n1 is %s, want Failed", s.Pool.State("n1"))
	}
}

// successor waits until the pool is open on another node, and returns the node.
func successor(s *pool.Scene, old string) *pgtest.Node {
	s.T.Helper()
	var name string
	pgtest.WaitUntil(s.T, pool.Generous, "a successor of "+old, func() bool {
		st := s.Status()
		name = fmt.Sprint(st["Primary"])
		return name != old && st["Phase"] == "open" && st["Held"] == false
	}, s.Pool.Log)
	for _, n := range s.Cluster.Nodes {
		if n.Name == name {
			return n
		}
	}
	s.T.Fatalf("%s is no node", name)
	return nil
}

// process is the body of a script that records its ids, descriptors and environment.
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
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil), Script: process + pool.PromoteScript(c)})
	s.Pool.Run("SECRET_OF_OURS=1", "PGAGROAL_ANYTHING=1", "NOTIFY_SOCKET="+s.Pool.Path("nobody"))
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	if got, err := os.ReadFile(filepath.Join(s.Pool.Dir, "hooks", "stdin")); err != nil || len(got) > 0 {
		t.Errorf("standard input gave %q, %v; want nothing", got, err)
	}
	lines := strings.Split(s.Dump("process"), "\n")
	uid := fmt.Sprint(os.Geteuid())
	if u := pool.ServingUser(t); u != nil {
		uid = fmt.Sprint(u.Uid)
	}
	ids := strings.Fields(lines[3])
	if lines[0] != uid || lines[1] != "/" || lines[2] != "0077" || lines[4] != "?" || lines[5] != "0" {
		t.Errorf("user, directory, umask, ids, terminal, core limit: %q", lines[:6])
	}
	if ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("process, group and session are %v, want them equal", ids)
	}
	wantDescriptors(t, lines[6:], s.Failover.Path)
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
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil), Script: process + pool.PromoteScript(c), Notify: `cat /proc/$$/environ > "$0.environ"`})
	s.Pool.Run("SECRET_OF_OURS=1", "PGAGROAL_ANYTHING=1", "LANG=", "NOTIFY_SOCKET="+s.Pool.Path("nobody"))
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	s.Dump("process")
	got := environment(t, filepath.Join(s.Pool.Dir, "hooks", "environ"))
	home := pool.UserOf(t)
	run := s.Told("failover")
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
	s.Told("notify")
	page := slices.DeleteFunc(documentedVariables(t), func(name string) bool {
		// of planned switchovers, failovers by force, living primaries, and checks alone
		return slices.Contains([]string{"PGAGROAL_PLANNED", "PGAGROAL_FORCED", "PGAGROAL_OLD_ALIVE", "PGAGROAL_CHECK"}, name)
	})
	for hook, env := range map[string]map[string]string{"failover": got, "notify": environment(t, s.Notify.Path+".environ")} {
		names := slices.Sorted(maps.Keys(env))
		if diff := cmp.Diff(page, names); diff != "" {
			t.Errorf("variables of %s (-page +script):\n%s", hook, diff)
		}
		if env["PGAGROAL_HOOK"] != hook {
			t.Errorf("PGAGROAL_HOOK of %s is %q", hook, env["PGAGROAL_HOOK"])
		}
	}
}

func TestScriptOfAForcedFailoverIsToldThatTheOldPrimaryLives(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Script: `cat /proc/$$/environ > "$0.environ"; exit 1`})
	s.Do("failover", "trigger", "--force")
	s.Told("failover")
	env := environment(t, s.Failover.Path+".environ")
	if env["PGAGROAL_FORCED"] != "on" || env["PGAGROAL_OLD_ALIVE"] != "on" || env["PGAGROAL_PLANNED"] != "" {
		t.Errorf("environment %v", env)
	}
}

// environment reads what a script has kept of /proc/self/environ.
func environment(t testing.TB, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	pool.Must(t, err)
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
	page, err := os.ReadFile("../../man/pgagroal-hooks.7")
	pool.Must(t, err)
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
