package runner

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// activator is the program that passes sockets as systemd does.
func activator(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatalf("the tests of socket activation need systemd-socket-activate: %v", err)
	}
	return path
}

func TestClientsAreServedOnSocketsOfTheServiceManager(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c)})
	unixSocket := p.Path("run/.s.PGSQL." + strconv.Itoa(p.Port))
	p.Wrap = []string{
		activator(t), "-l", "127.0.0.1:" + strconv.Itoa(p.Port), "-l", unixSocket, "--fdname=clients:clients",
		"-E", "HOME=" + p.Dir,
	}
	p.Begin()
	pgtest.WaitUntil(t, pool.Generous, "the sockets to be there", func() bool {
		_, err := os.Stat(unixSocket) // the socket that is created last
		return err == nil
	})
	pool.MustQuery(t, p.Connect(), "SELECT 1") // the first client starts pgagroal
	p.WaitReady()
	pool.MustQuery(t, p.ConnectAs(p.UnixConfig("postgres", "", "postgres")), "SELECT 1")
	for _, want := range []string{"clients tcp 127.0.0.1:" + strconv.Itoa(p.Port), "clients unix " + unixSocket} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("the log doesn't tell of the socket %q", want)
		}
	}
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGTERM))
	if code := p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := os.Stat(unixSocket); err != nil {
		t.Errorf("the socket of the service manager was removed: %v", err)
	}
}

// service is pgagroal-scriptrunner as a service of its own.
type service struct {
	cmd *exec.Cmd
	log *os.File
}

// serveScripts starts a command that is or becomes the runner.
func serveScripts(p *pool.Pool, cmd *exec.Cmd) *service {
	p.T.Helper()
	log, err := os.OpenFile(p.Path("scriptrunner.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	pool.Must(p.T, err)
	cmd.Stdout, cmd.Stderr = log, log
	pool.Must(p.T, cmd.Start())
	v := &service{cmd, log}
	p.T.Cleanup(func() {
		v.kill()
		log.Close()
		if text, err := os.ReadFile(log.Name()); p.T.Failed() || err != nil {
			p.T.Logf("log of the runner: %v\n%s", err, text)
		}
	})
	return v
}

func (v *service) kill() {
	if v.cmd.ProcessState == nil {
		_ = v.cmd.Process.Kill()
		_ = v.cmd.Wait()
	}
}

// runnerAt is the runner that listens by itself.
func runnerAt(p *pool.Pool, conf string) *service {
	p.T.Helper()
	return serveScripts(p, p.Command("pgagroal-scriptrunner", "-c", conf, "--socket", p.Path("run/scripts.sock")))
}

// separate prepares a scene whose scripts run in a service of their own.
func separate(t testing.TB, standbys int, pl pool.Plan) *pool.Scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	pl.Keys = pool.HastyKeys(pl.Keys)
	s := pool.Ready(t, c, pl)
	s.Pool.SetKey("scriptrunner_socket", s.Pool.Path("run/scripts.sock"))
	return s
}

func TestAFailoverRunsThroughTheServiceThatItsSocketStarts(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	cmd := s.Pool.Command("pgagroal-scriptrunner", "-c", s.Pool.Path("pgagroal.conf"))
	cmd.Path = activator(t)
	cmd.Args = append([]string{
		cmd.Path, "--seqpacket", "-l", s.Pool.Path("run/scripts.sock"), "--fdname=scriptrunner", "-E", "STATE_DIRECTORY=" + s.Pool.Path("hooks"),
	}, cmd.Args...)
	v := serveScripts(s.Pool, cmd)
	pgtest.WaitUntil(t, pool.Generous, "the socket of the runner", func() bool {
		_, err := os.Stat(s.Pool.Path("run/scripts.sock"))
		return err == nil
	})
	s.Pool.Run()
	s.Opened("n1")
	s.RunnerUp(0)
	r, _ := s.Status()["Runner"].(map[string]any)
	if r["PID"] != float64(v.cmd.Process.Pid) || r["Socket"] != s.Pool.Path("run/scripts.sock") || s.Pool.Runner() != 0 {
		t.Errorf("runner %v and child %d; want process %d and no child", r, s.Pool.Runner(), v.cmd.Process.Pid)
	}
	s.Kill(1)
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAServiceWithAnotherConfigurationIsAnAlarmBeforeAnyFailover(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	data, err := os.ReadFile(s.Pool.Path("pgagroal.conf"))
	pool.Must(t, err)
	other := strings.Replace(string(data), "failover_script = "+s.Failover.Path, "failover_script = "+s.Notify.Path+".other", 1)
	if other == string(data) {
		t.Fatal("the configuration of the runner is no other one")
	}
	pool.WriteFile(t, s.Pool.Path("other.conf"), other, 0o644)
	runnerAt(s.Pool, s.Pool.Path("other.conf"))
	s.Pool.Run()
	s.Opened("n1")
	s.Alarmed("other hooks or servers than we have")
	if r, _ := s.Status()["Runner"].(map[string]any); r["DigestMatch"] != false {
		t.Errorf("runner %v, want DigestMatch false", r)
	}
	if out, _, _ := s.Pool.CLI("status"); !strings.Contains(out, "other hooks or servers than we have") {
		t.Errorf("status doesn't show it:\n%s", out)
	}
}

func TestAServiceThatIsGoneIsAnAlarmUntilItIsBack(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	s.Opened("n1")
	s.RunnerUp(0)
	old := v.cmd.Process.Pid
	v.kill()
	s.Alarmed("the script runner is gone")
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.RunnerUp(old)
	s.Kill(1)
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestWithoutItsServiceAFailoverWaitsAndThenRuns(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	s.Pool.Run()
	s.Opened("n1")
	s.Alarmed("the script runner is not available")
	s.Kill(1)
	pgtest.WaitUntil(t, pool.Generous, "a choice that can't be run", func() bool {
		return strings.Contains(fmt.Sprint(s.Word("HeldReason")), "the script runner is not available")
	}, func() string { return fmt.Sprint(s.Status()) })
	s.NothingRan()
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestARunOfAServiceThatDiedIsNotOverWhileItsScriptLives(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	g := latch{t, s.Pool.Path("hooks/gate")}
	s.Failover = s.Pool.Hook("failover.sh", "echo $$ > "+s.Pool.Path("hooks/pid")+"\n"+g.wait()+"exit 7")
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	s.RunnerUp(0)
	s.Kill(1)
	script, old := running(s), v.cmd.Process.Pid
	v.kill()
	s.Held("the outcome is unknown")
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf")) // the new runner knows nothing of the run
	s.RunnerUp(old)
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Seen("n1", "primary")
	// By now the new runner's answer and the probe would have been enough.
	pool.NeverWithin(t, time.Second, "n1 is used while the script may promote n2", func() bool { return s.Word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		t.Fatal("the script has ended with its runner")
	}
	g.open()
	s.Opened("n1")
	if n := len(s.Failover.Runs()); n != 1 || s.Epoch() != 1 {
		t.Errorf("%d runs in epoch %d, want one in 1", n, s.Epoch())
	}
}
