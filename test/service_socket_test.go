package test

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
	p := Prepare(t, Setup{Servers: nodes(c)})
	unixSocket := p.path("run/.s.PGSQL." + strconv.Itoa(p.Port))
	p.wrap = []string{
		activator(t), "-l", "127.0.0.1:" + strconv.Itoa(p.Port), "-l", unixSocket, "--fdname=clients:clients",
		"-E", "HOME=" + p.Dir,
	}
	p.begin()
	pgtest.WaitUntil(t, generous, "the sockets to be there", func() bool {
		_, err := os.Stat(unixSocket) // the last one to be made
		return err == nil
	})
	mustQuery(t, p.Connect(), "SELECT 1") // the first client starts pgagroal
	p.WaitReady()
	mustQuery(t, p.ConnectAs(p.UnixConfig("postgres", "", "postgres")), "SELECT 1")
	for _, want := range []string{"clients tcp 127.0.0.1:" + strconv.Itoa(p.Port), "clients unix " + unixSocket} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("the log doesn't tell of the socket %q", want)
		}
	}
	must(t, syscall.Kill(p.PID(), syscall.SIGTERM))
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
func (p *Pool) serveScripts(cmd *exec.Cmd) *service {
	p.t.Helper()
	log, err := os.OpenFile(p.path("scriptrunner.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(p.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(p.t, cmd.Start())
	v := &service{cmd, log}
	p.t.Cleanup(func() {
		v.kill()
		log.Close()
		if text, err := os.ReadFile(log.Name()); p.t.Failed() || err != nil {
			p.t.Logf("log of the runner: %v\n%s", err, text)
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
func (p *Pool) runnerAt(conf string) *service {
	p.t.Helper()
	return p.serveScripts(p.Command("pgagroal-scriptrunner", "-c", conf, "--socket", p.path("run/scripts.sock")))
}

// separate prepares a scene whose scripts run in a service of their own.
func separate(t testing.TB, standbys int, pl plan) *scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	pl.keys = hasty(pl.keys)
	s := ready(t, c, pl)
	s.p.setKey("scriptrunner_socket", s.p.path("run/scripts.sock"))
	return s
}

func TestAFailoverRunsThroughTheServiceThatItsSocketStarts(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	cmd := s.p.Command("pgagroal-scriptrunner", "-c", s.p.path("pgagroal.conf"))
	cmd.Path = activator(t)
	cmd.Args = append([]string{
		cmd.Path, "--seqpacket", "-l", s.p.path("run/scripts.sock"), "--fdname=scriptrunner", "-E", "STATE_DIRECTORY=" + s.p.path("hooks"),
	}, cmd.Args...)
	v := s.p.serveScripts(cmd)
	pgtest.WaitUntil(t, generous, "the socket of the runner", func() bool {
		_, err := os.Stat(s.p.path("run/scripts.sock"))
		return err == nil
	})
	s.p.Run()
	s.opened("n1")
	s.runnerUp(0)
	r, _ := s.status()["Runner"].(map[string]any)
	if r["PID"] != float64(v.cmd.Process.Pid) || r["Socket"] != s.p.path("run/scripts.sock") || s.p.Runner() != 0 {
		t.Errorf("runner %v and child %d; want process %d and no child", r, s.p.Runner(), v.cmd.Process.Pid)
	}
	s.kill(1)
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAServiceWithAnotherConfigurationIsAnAlarmBeforeAnyFailover(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	data, err := os.ReadFile(s.p.path("pgagroal.conf"))
	must(t, err)
	other := strings.Replace(string(data), "failover_script = "+s.failover.Path, "failover_script = "+s.notify.Path+".other", 1)
	if other == string(data) {
		t.Fatal("the configuration of the runner is no other one")
	}
	writeFile(t, s.p.path("other.conf"), other, 0o644)
	s.p.runnerAt(s.p.path("other.conf"))
	s.p.Run()
	s.opened("n1")
	s.alarmed("other hooks or servers than we have")
	if r, _ := s.status()["Runner"].(map[string]any); r["DigestMatch"] != false {
		t.Errorf("runner %v, want DigestMatch false", r)
	}
	if out, _, _ := s.p.CLI("status"); !strings.Contains(out, "other hooks or servers than we have") {
		t.Errorf("status doesn't show it:\n%s", out)
	}
}

func TestAServiceThatIsGoneIsAnAlarmUntilItIsBack(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	v := s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	s.opened("n1")
	s.runnerUp(0)
	old := v.cmd.Process.Pid
	v.kill()
	s.alarmed("the script runner is gone")
	s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.runnerUp(old)
	s.kill(1)
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestWithoutItsServiceAFailoverWaitsAndThenRuns(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	s.p.Run()
	s.opened("n1")
	s.alarmed("the script runner is not available")
	s.kill(1)
	pgtest.WaitUntil(t, generous, "a choice that can't be run", func() bool {
		return strings.Contains(fmt.Sprint(s.word("HeldReason")), "the script runner is not available")
	}, func() string { return fmt.Sprint(s.status()) })
	s.nothingRan()
	s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestARunOfAServiceThatDiedIsNotOverWhileItsScriptLives(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	g := latch{t, s.p.path("hooks/gate")}
	s.failover = s.p.hook("failover.sh", "echo $$ > "+s.p.path("hooks/pid")+"\n"+g.wait()+"exit 7")
	v := s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	s.runnerUp(0)
	s.kill(1)
	script, old := s.running(), v.cmd.Process.Pid
	v.kill()
	s.held("the outcome is unknown")
	s.p.runnerAt(s.p.path("pgagroal.conf")) // it knows nothing of the run
	s.runnerUp(old)
	must(t, s.node(1).Start(within(t)))
	s.seen("n1", "primary")
	// By now the new runner's answer and the probe would have been enough.
	neverWithin(t, time.Second, "n1 is used while the script may promote n2", func() bool { return s.word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		t.Fatal("the script has ended with its runner")
	}
	g.open()
	s.opened("n1")
	if n := len(s.failover.Runs()); n != 1 || s.epoch() != 1 {
		t.Errorf("%d runs in epoch %d, want one in 1", n, s.epoch())
	}
}
