package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// threads returns the lines of /proc/PID/task/*/status by name, one map a thread.
func threads(t testing.TB, pid int) []map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	pool.Must(t, err)
	var out []map[string]string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		m := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			m[name] = strings.Join(strings.Fields(value), " ")
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		t.Fatalf("process %d has no threads", pid)
	}
	return out
}

func TestStartedAsRootEveryProcessIsItsUserForGood(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	s := pool.Ready(t, pgtest.New(t, pgtest.Options{Standbys: 1}), pool.Plan{Keys: pool.HastyKeys(nil), Script: "id -u; exit 3"})
	s.Pool.AsRoot = true
	s.Pool.SetKey("user", "postgres")
	s.Pool.Run()
	s.Opened("n1")
	uid := strconv.Itoa(int(pool.ServingUser(t).Uid))
	processes := append(s.Pool.Workers(), s.Pool.PID(), s.Pool.Runner())
	if len(processes) != 4 || slices.Contains(processes, 0) {
		t.Fatalf("processes %v", processes)
	}
	for i, pid := range processes {
		for _, th := range threads(t, pid) {
			if want := strings.Join([]string{uid, uid, uid, uid}, " "); th["Uid"] != want || strings.HasPrefix(th["Gid"], "0 ") {
				t.Errorf("%s (%d) has user ids %s, group ids %s", th["Name"], pid, th["Uid"], th["Gid"])
			}
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
				if strings.Trim(th[set], "0") != "" {
					t.Errorf("%s (%d) has capabilities %s %s", th["Name"], pid, set, th[set])
				}
			}
			if slices.Contains(strings.Fields(th["Groups"]), "0") {
				t.Errorf("%s (%d) is in the groups %s", th["Name"], pid, th["Groups"])
			}
			if worker := i < 2; worker && th["NoNewPrivs"] != "1" {
				t.Errorf("worker %d could gain privileges", pid)
			}
		}
	}
	s.Kill(1)
	s.Held("exit code 3")
	if got := fmt.Sprint(s.Told("failover")["output"]); got != uid {
		t.Errorf("the script ran as user %s, want %s", got, uid)
	}
}

func TestUnprivilegedItServesAndItsWorkersCannotGainAnything(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"user": pool.UserOf(t).Username}})
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	for _, pid := range p.Workers() {
		for _, th := range threads(t, pid) {
			if th["NoNewPrivs"] != "1" || strings.Trim(th["CapEff"], "0") != "" {
				t.Errorf("worker %d: no_new_privs %s, capabilities %s", pid, th["NoNewPrivs"], th["CapEff"])
			}
		}
	}
}

func TestRootIsRefusedUnlessAUserIsNamed(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}})
	start := func() string {
		cmd := p.Command("pgagroal", "-D", p.Dir)
		cmd.SysProcAttr = nil
		return pool.WontStart(t, cmd)
	}
	if said := start(); !strings.Contains(said, "does not run as root; set user in pgagroal.conf") {
		t.Errorf("it says %q", said)
	}
	p.SetKey("user", "root")
	if said := start(); !strings.Contains(said, "does not run as root") {
		t.Errorf("with user = root it says %q", said)
	}
	p.DropKey("user")
	p.SetKey("user", "no-such-user")
	if said := start(); !strings.Contains(said, "no-such-user") {
		t.Errorf("with an unknown user it says %q", said)
	}
}

func TestAnotherUserCannotBeHadWithoutRoot(t *testing.T) {
	t.Parallel()
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}, Keys: map[string]string{"user": "nobody"}})
	if said := pool.WontStart(t, p.Command("pgagroal", "-D", p.Dir)); !strings.Contains(said, `become user "nobody"`) {
		t.Errorf("it says %q", said)
	}
}

// descriptors returns where the descriptors of a process lead, without what the
// Go runtime opens for itself.
func descriptors(t testing.TB, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	pool.Must(t, err)
	var out []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") {
			continue
		}
		kind, _, _ := strings.Cut(to, ":")
		out = append(out, kind)
	}
	slices.Sort(out)
	return out
}

func TestChildrenInheritNothingButTheirLinkAndTheLock(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"metrics": ""}})
	s.RunnerUp(0)
	lock := filepath.Join(s.Pool.Path("state"), proc.LockName)
	want := []string{"/dev/null", lock, "pipe", "pipe", "pipe", "socket"} // standard output, standard error, and the log
	for _, pid := range append(s.Pool.Workers(), s.Pool.Prober()) {
		has := func() []string { return descriptors(t, pid) }
		// Connections of a look at a server come and go. What was inherited stays.
		pgtest.WaitUntil(t, pool.Generous, fmt.Sprintf("child %d to have %v", pid, want), func() bool { return slices.Equal(has(), want) },
			func() string { return fmt.Sprint(has()) })
	}
	runs := func(f string) bool { return strings.HasPrefix(f, s.Pool.Path("state")) && f != lock } // the runner's record of runs
	has := func() []string { return slices.DeleteFunc(descriptors(t, s.Pool.Runner()), runs) }
	// Scripts that it looks at come and go.
	pgtest.WaitUntil(t, pool.Generous, fmt.Sprintf("the runner to have %v", want), func() bool { return slices.Equal(has(), want) },
		func() string { return fmt.Sprint(has()) })
}

func TestPsShowsWhichProcessIsWhich(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	s.RunnerUp(0)
	var titles []string
	for _, pid := range append(s.Pool.Workers(), s.Pool.Runner(), s.Pool.Prober()) {
		out, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
		pool.Must(t, err)
		titles = append(titles, strings.TrimSpace(string(out)))
	}
	slices.Sort(titles)
	if want := []string{"pgagroal: prober", "pgagroal: scriptrunner", "pgagroal: worker 0", "pgagroal: worker 1"}; !slices.Equal(titles, want) {
		t.Errorf("ps shows %q, want %q", titles, want)
	}
}

func TestInTheBackgroundItServesWhenTheCommandReturns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	t.Run("alone", func(t *testing.T) { inTheBackground(t, c, nil) })
	t.Run("with worker_user", func(t *testing.T) {
		pool.RootOnly(t)
		inTheBackground(t, c, map[string]string{"user": "postgres", "worker_user": workerUser})
	})
}

// inTheBackground starts and ends pgagroal -d, as root if keys name a worker_user.
func inTheBackground(t *testing.T, c *pgtest.Cluster, keys map[string]string) {
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"log_type": "file", "log_path": ""}})
	p.SetKey("log_path", p.Path("pgagroal.log"))
	for k, v := range keys {
		p.SetKey(k, v)
	}
	cmd := p.Command("pgagroal", "-d", "-D", p.Dir)
	if keys["worker_user"] != "" {
		cmd.SysProcAttr = nil // as root
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = pool.Generous // until the daemon has closed our pipe
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	data, err := os.ReadFile(p.Path("run/pgagroal." + strconv.Itoa(p.Port) + ".pid"))
	pool.Must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	pool.Must(t, err)
	t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		if log, err := os.ReadFile(p.Path("pgagroal.log")); t.Failed() || err != nil {
			t.Logf("%v\n%s", err, log)
		}
	})
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	if sid, err := sessionOf(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v; want one of its own, %d", sid, err, pid)
	}
	pool.Must(t, syscall.Kill(pid, syscall.SIGTERM))
	pgtest.WaitUntil(t, pool.Generous, "its end", func() bool { return !proc.ProcessAlive(pid) })
	if _, err := os.Stat(p.Path("run/.s.PGSQL." + strconv.Itoa(p.Port))); !os.IsNotExist(err) {
		t.Errorf("its socket is still there: %v", err)
	}
}

func sessionOf(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return strconv.Atoi(f[3])
}

// TestEveryProgramPrintsItsHelpAndVersion: what they say of their version is the same but for their name.
func TestEveryProgramPrintsItsHelpAndVersion(t *testing.T) {
	t.Parallel()
	printed := func(name, flag string) string {
		cmd := exec.Command(pool.Program(name), flag)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || !strings.Contains(out.String(), name) || errs.Len() > 0 {
			t.Errorf("%s %s: %v, %q, %q", name, flag, err, out.String(), errs.String())
		}
		return out.String()
	}
	for _, name := range []string{"pgagroal", "pgagroal-cli", "pgagroal-admin", "pgagroal-scriptrunner"} {
		printed(name, "--help")
	}
	want := " devel (" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + ")\n"
	for _, name := range []string{"pgagroal", "pgagroal-cli", "pgagroal-admin", "pgagroal-scriptrunner", "pgagroal-console"} {
		for _, flag := range []string{"--version", "-V"} {
			if got := printed(name, flag); got != name+want {
				t.Errorf("%s %s: %q, not %q", name, flag, got, name+want)
			}
		}
	}
}

func TestTheTestFlagChecksPrintsAndNamesPlaceAndNearestKey(t *testing.T) {
	t.Parallel()
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}})
	cmd := p.Command("pgagroal", "-t", "-D", p.Dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "max_connections = 50") || !strings.Contains(string(out), "[n1]") {
		t.Errorf("%v: %s%s", err, out, &errs)
	}
	// The output is a valid configuration.
	pool.WriteFile(t, p.Path("pgagroal.conf"), string(out), 0o644)
	if again, err := p.Command("pgagroal", "-t", "-D", p.Dir).Output(); err != nil || !bytes.Equal(again, out) {
		t.Errorf("what it has printed reads as\n%s\n%v", again, err)
	}
	p.SetKey("max_conections", "7")
	said := pool.WontStart(t, p.Command("pgagroal", "-t", "-D", p.Dir))
	if !strings.Contains(said, p.Path("pgagroal.conf")+":2:") || !strings.Contains(said, "max_connections") {
		t.Errorf("it says %q; want file, line 2 and the key that is meant", said)
	}
}
