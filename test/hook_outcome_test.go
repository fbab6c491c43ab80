package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

func TestAFailedScriptLeavesBothServersFailed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script, held string
		exit, signal       float64
	}{
		{"exit code 3", "echo no; exit 3", "ended with exit code 3", 3, 0},
		{"signal", "kill -9 $$", "ended by signal 9", -1, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := contract(t, 2, plan{script: tt.script, keys: map[string]string{"failover_client_wait": "200ms"}})
			s.kill(1)
			s.held(tt.held)
			e := s.told("failover")
			s.p.WaitState("n1", "Failed")
			s.p.WaitState(fmt.Sprint(e["new"]), "Failed")
			if e["exit"] != tt.exit || tt.signal != 0 && e["signal"] != tt.signal {
				t.Errorf("history says exit %v, signal %v; want %v, %v", e["exit"], e["signal"], tt.exit, tt.signal)
			}
			s.refused(s.logIn(), "57P03")
			if n := len(s.failover.Runs()); n != 1 || len(s.notify.Runs()) != 0 {
				t.Errorf("%d runs of failover, %d of notify; want 1 and 0", n, len(s.notify.Runs()))
			}
			if s.epoch() != 1 {
				t.Errorf("epoch %d, want 1: a failed run changes no primary", s.epoch())
			}
		})
	}
}

func TestAScriptThatMayNotRunAnyMoreIsRefusedWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, why string
		damage    func(t *testing.T, path string)
	}{
		{"not executable", "has mode 0644", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o644)) }},
		{"writable by others", "others can change what is run", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o757)) }},
		{"replaced by one that others can write", "others can change what is run", func(t *testing.T, path string) {
			writeFile(t, path+".new", "#!/bin/sh\nexit 0\n", 0o777)
			must(t, os.Rename(path+".new", path))
		}},
		{"gone", "no such file", func(t *testing.T, path string) { must(t, os.Remove(path)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := contract(t, 1, plan{})
			tt.damage(t, s.failover.Path)
			s.kill(1)
			s.held(tt.why)
			s.nothingRan()
			s.p.WaitState("n1", "Failed")
			s.p.WaitState("n2", "Replica") // nothing has touched it
			says(t, s.told("failover"), "result", tt.why)
		})
	}
}

func TestAtItsTimeoutAllThatAScriptStartedIsEnded(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{
		keys: map[string]string{"failover_script_timeout": "1s"},
		script: `trap '' TERM
echo first line
sleep 1001 & echo "pid $!"
setsid sh -c 'trap "" TERM; sleep 1002' & echo "pid $!"
echo "pid $$"
echo to standard error >&2
while :; do sleep 1003; done`,
	})
	s.kill(1)
	s.held("took longer than 1s")
	s.p.WaitState("n1", "Failed")
	s.p.WaitState("n2", "Failed")
	e := s.told("failover")
	if e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	output := fmt.Sprint(e["output"])
	pids := 0
	for _, line := range strings.Split(output, "\n") {
		if !strings.Contains(s.p.Log(), line) {
			t.Errorf("the log lacks the line %q of the script", line)
		}
		if id, ok := strings.CutPrefix(line, "pid "); ok {
			pid, err := strconv.Atoi(id)
			must(t, err)
			pids++
			if proc.ProcessAlive(pid) {
				t.Errorf("process %d of the script lives on", pid)
			}
		}
	}
	if pids != 3 || !strings.Contains(output, "first line\n") || !strings.Contains(output, "to standard error") {
		t.Errorf("output in the history: %q", output)
	}
	if n := len(s.failover.Runs()); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
}

func TestAScriptCanAskPgagroalWhileItRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil)})
	cli := fmt.Sprintf("%s -c %s", program("pgagroal-cli"), s.p.path("pgagroal.conf"))
	body := fmt.Sprintf(`for w in status "failover status" ping; do %[1]s $w >/dev/null 2>&1; echo "$w: $?"; done
%[1]s failover status | grep -E 'Phase|Hook:'
%[1]s switch-to n2 2>&1; echo "switch-to: $?"
%[1]s clear server n1 2>&1; echo "clear: $?"
`, cli)
	s.failover = s.p.hook("failover.sh", body+promote(c))
	s.p.Run()
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	out := fmt.Sprint(s.told("failover")["output"])
	for _, want := range []string{"status: 0", "failover status: 0", "ping: 3", "Hook: failover", "Phase: running", "switch-to: 1", "clear: 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the script doesn't say %q:\n%s", want, out)
		}
	}
}

func TestAFailingNotifyScriptChangesNothingAndIsShown(t *testing.T) {
	t.Parallel()
	s := contract(t, 2, plan{notify: "echo cannot reach the standby; exit 5"})
	s.kill(1)
	s.opened("n2")
	s.alarmed("notify")
	e := s.told("notify")
	if e["exit"] != 5.0 || !strings.Contains(fmt.Sprint(e["output"]), "cannot reach the standby") {
		t.Errorf("history: %v", e)
	}
	s.p.WaitLog("cannot reach the standby")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	s.p.WaitState("n2", "Primary")
	if n := len(s.notify.Runs()); n != 1 || s.epoch() != 2 {
		t.Errorf("%d runs of notify in epoch %d; want 1 in 2", n, s.epoch())
	}
}

func TestAHangingNotifyScriptDelaysNobodyAndIsEnded(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{notify: "sleep 1000", keys: map[string]string{"failover_notify_timeout": "5s"}})
	s.kill(1)
	s.notify.WaitRuns(1)
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	if n := len(s.history("notify")); n != 0 {
		t.Fatal("clients have waited for the notify script")
	}
	s.alarmed("notify")
	if e := s.told("notify"); e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
}

func TestManyClientsThatSeeTheDeathMakeOneRun(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	ended := make(chan struct{}, 20)
	for range cap(ended) {
		cl := s.p.Connect()
		mustQuery(t, cl, "SELECT 1")
		go func() {
			_, _ = query(cl, "SELECT pg_sleep(60)") // ends with the server
			ended <- struct{}{}
		}()
	}
	waitNode(t, s.node(1), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", "20")
	s.kill(1)
	for range cap(ended) {
		<-ended
	}
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	if s.epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.epoch())
	}
}

func TestWithoutFailoverNothingRuns(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{keys: map[string]string{"failover": "off", "health_check": "on", "health_check_period": "1s"}})
	if s.p.Runner() != 0 {
		t.Error("there is a runner, with nothing to run")
	}
	s.kill(1)
	s.alarmed("failover is off")
	s.quiet(500 * time.Millisecond) // a run would start 100 ms after such an alarm
	if ok, err := s.node(2).InRecovery(within(t)); err != nil || !ok {
		t.Errorf("n2 in recovery: %v, %v", ok, err)
	}
}
