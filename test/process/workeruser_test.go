package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// workerUser is the account of the workers in these tests.
const workerUser = "nobody"

// withWorkerUser starts pgagroal as root, with workers that run as another account.
func withWorkerUser(t *testing.T, keys map[string]string) *pool.Pool {
	t.Helper()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: keys})
	p.AsRoot = true
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", workerUser)
	p.Run()
	return p
}

// ids is the line of user ids of a process whose real, effective and saved user are the
// same.
func ids(t *testing.T, name string) string {
	t.Helper()
	cred, err := proc.CredentialOf(name)
	pool.Must(t, err)
	id := strconv.Itoa(int(cred.Uid))
	return strings.Join([]string{id, id, id, id}, " ")
}

// ended says whether a pool's process has ended, without waiting.
func ended(p *pool.Pool) bool { return !proc.ProcessAlive(p.PID()) }

func TestWithWorkerUserWorkersAreThatUserAndNothingElse(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	const setgidSetuidKill = "e0"
	for _, c := range []struct {
		name, user, capabilities string
		pids                     []int
	}{
		{"supervisor", "postgres", "", []int{p.PID()}},
		{"starter", "root", setgidSetuidKill, []int{p.Starter()}},
		{"worker", workerUser, "", p.Workers()},
		{"prober", workerUser, "", []int{p.Prober()}},
	} {
		for _, pid := range c.pids {
			for _, th := range threads(t, pid) {
				if want := ids(t, c.user); th["Uid"] != want {
					t.Errorf("the %s has user ids %s, want %s", c.name, th["Uid"], want)
				}
				for _, set := range []string{"CapInh", "CapAmb"} {
					if strings.TrimLeft(th[set], "0") != "" {
						t.Errorf("the %s has %s %s", c.name, set, th[set])
					}
				}
				for _, set := range []string{"CapPrm", "CapEff"} {
					if got := strings.TrimLeft(th[set], "0"); got != c.capabilities {
						t.Errorf("the %s has %s %s, want %q", c.name, set, th[set], c.capabilities)
					}
				}
				if c.name != "supervisor" && th["NoNewPrivs"] != "1" {
					t.Errorf("the %s could gain privileges", c.name)
				}
			}
		}
	}
	if out, _, _ := p.CLI("status"); !strings.Contains(out, "a user of its own") {
		t.Errorf("status doesn't show it: %s", out)
	}
	got := strings.Join(descriptors(t, p.Workers()[0]), " ")
	if want := strings.Join([]string{"/dev/null", filepath.Join(p.Path("state"), proc.LockName), "pipe", "pipe", "pipe", "socket"}, " "); got != want {
		t.Errorf("a worker has %s, want %s", got, want)
	}
	pool.MustQuery(t, p.Connect(), "SELECT 1")
}

func TestWithWorkerUserADeadWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, map[string]string{"workers": "1"})
	old := p.Workers()[0]
	pool.Must(t, syscall.Kill(old, syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "another worker", func() bool {
		now := p.Workers()
		return len(now) == 1 && now[0] != old
	}, p.Log)
	p.WaitLog("signal: killed")
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	if got := threads(t, p.Workers()[0])[0]["Uid"]; got != ids(t, workerUser) {
		t.Errorf("it has user ids %s", got)
	}
}

func TestWithWorkerUserTheLogFileIsTheWorkersToo(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"log_type": "file", "log_path": ""}})
	path := p.Path("state") + "/pgagroal.log" // where the supervisor's user may write, and the workers' may not
	p.SetKey("log_path", path)
	p.AsRoot = true
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", workerUser)
	p.Run()
	cl := p.Connect()
	pool.MustQuery(t, cl, "SELECT 1")
	pgtest.WaitUntil(t, pool.Generous, "a line of a worker in the log file", func() bool {
		log, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(log), "connection authorized")
	})
}

func TestWithWorkerUserADeadProberIsReplaced(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	old := p.Prober()
	pool.Must(t, syscall.Kill(old, syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "another prober", func() bool {
		now := p.Prober()
		return now != 0 && now != old
	}, p.Log)
	if got := threads(t, p.Prober())[0]["Uid"]; got != ids(t, workerUser) {
		t.Errorf("it has user ids %s", got)
	}
}

// A worker that hangs ends only with SIGKILL, which the supervisor has no right to send
// to it.
func TestWithWorkerUserAHungWorkerIsKilled(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	stuck := p.Workers()[0]
	pool.Freeze(t, stuck)
	starter := p.Starter()
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGTERM))
	pgtest.WaitUntil(t, pool.Generous, "the end of all", func() bool {
		return ended(p) && gone(stuck) && gone(starter)
	}, p.Log)
	if log := p.Log(); strings.Contains(log, " ERROR ") {
		t.Errorf("the end has something to complain about: %s", log)
	}
}

func TestWithWorkerUserAHungProberIsKilled(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	stuck := p.Prober()
	pool.Freeze(t, stuck)
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGTERM))
	p.WaitLog(`how="signal: killed"`) // seen by the supervisor, not only at its own end
	pgtest.WaitUntil(t, pool.Generous, "the end", func() bool { return ended(p) && gone(stuck) }, p.Log)
}

func TestWithWorkerUserNothingOutlivesItsSupervisor(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	workers, starter, prober := p.Workers(), p.Starter(), p.Prober()
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "the end of all", func() bool {
		return gone(workers[0]) && gone(workers[1]) && gone(starter) && gone(prober)
	}, p.Log)
}

func TestWithoutItsStarterPgagroalEnds(t *testing.T) {
	t.Parallel()
	p := withWorkerUser(t, nil)
	stuck, other := p.Workers()[0], p.Workers()[1]
	pool.Freeze(t, stuck)
	pool.Must(t, syscall.Kill(p.Starter(), syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "the end", func() bool { return ended(p) && gone(other) }, p.Log)
	p.WaitLog("the starter of workers is lost")
	p.WaitLog("is left behind") // and ends when the kernel wakes it, since its process group is an orphan
	pgtest.WaitUntil(t, pool.Generous, "the end of the worker that was stopped", func() bool { return gone(stuck) }, p.Log)
}

func TestAWorkerUserThatCannotBeHadIsRefused(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}})
	p.SetKey("user", "postgres")
	said := func(asRoot bool, args ...string) string {
		cmd := p.Command("pgagroal", append(args, "-D", p.Dir)...)
		if asRoot {
			cmd.SysProcAttr = nil
		}
		return pool.WontStart(t, cmd)
	}
	for _, args := range [][]string{nil, {"-t"}} {
		for name, want := range map[string]string{
			"no-such-user": "create the account",
			"root":         "name an account without rights",
			"postgres":     "is the account of pgagroal itself",
		} {
			p.DropKey("worker_user")
			p.SetKey("worker_user", name)
			if got := said(true, args...); !strings.Contains(got, "worker_user: ") || !strings.Contains(got, want) {
				t.Errorf("%v with worker_user = %s it says %q", args, name, got)
			}
		}
		p.DropKey("worker_user")
		p.SetKey("worker_user", workerUser)
		if got := said(false, args...); !strings.Contains(got, "start pgagroal as root") {
			t.Errorf("%v without root it says %q", args, got)
		}
	}
}

// An account with the group of root may read and write what that group may.
func TestAWorkerUserOfRootsGroupIsRefused(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}})
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", "operator0")
	for _, args := range [][]string{nil, {"-t"}} {
		cmd := p.Command("pgagroal", append(args, "-D", p.Dir)...)
		p.SeesAccount(cmd, "operator0:x:4711:0::/nonexistent:/bin/false")
		if got := pool.WontStart(t, cmd); !strings.Contains(got, "worker_user: operator0 is root or of its group") {
			t.Errorf("%v: it says %q", args, got)
		}
	}
}

// The drop-in of pgagroal-privsep(7) leaves these capabilities to a service that is started as root.
func TestTheCapabilitiesOfTheServiceAreEnoughForAWorkerUser(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	page, err := os.ReadFile("../../man/pgagroal-privsep.7")
	pool.Must(t, err)
	set := "-all"
	for line := range strings.Lines(string(page)) {
		if names, ok := strings.CutPrefix(line, "CapabilityBoundingSet="); ok {
			for _, name := range strings.Fields(names) {
				set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
			}
		}
	}
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(pgtest.New(t, pgtest.Options{})), Keys: map[string]string{"workers": "1"}})
	p.AsRoot = true
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", workerUser)
	p.Adjust = func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"setpriv", "--bounding-set", set, cmd.Path}, cmd.Args[1:]...)
		cmd.Path, err = exec.LookPath("setpriv")
		pool.Must(t, err)
	}
	p.Run()
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	worker := p.Workers()[0]
	pool.Must(t, syscall.Kill(worker, syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "another worker", func() bool {
		now := p.Workers()
		return len(now) == 1 && now[0] != worker
	}, p.Log)
}

func TestWithWorkerUserAServerThatAsksForPeerSeesIt(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{HBA: []string{"local all all peer"}})
	n := c.Primary()
	for _, dir := range []string{n.SocketDir, filepath.Dir(n.SocketDir)} {
		pool.Must(t, os.Chmod(dir, 0o711)) // everybody may enter it, like the directory of a distribution
	}
	for _, role := range []string{workerUser, "somebody"} {
		if _, err := n.Query(t.Context(), "CREATE ROLE "+role+" LOGIN"); err != nil {
			t.Fatal(err)
		}
	}
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}})
	p.AsRoot = true
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", workerUser)
	p.Run()
	pool.MustQuery(t, p.ConnectAs(p.Config(workerUser, "", "postgres")), "SELECT 1")
	if _, err := p.Try(p.Config("somebody", "", "postgres")); err == nil || !strings.Contains(err.Error(), "Peer authentication failed") {
		t.Errorf("another role gets in, or fails otherwise: %v", err)
	}
}
