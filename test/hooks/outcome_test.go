package hooks

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
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
			s := pool.PlayOpen(t, 2, pool.Plan{Script: tt.script, Keys: map[string]string{"failover_client_wait": "200ms"}})
			s.Kill(1)
			s.Held(tt.held)
			e := s.Told("failover")
			s.Pool.WaitState("n1", "Failed")
			s.Pool.WaitState(fmt.Sprint(e["new"]), "Failed")
			if e["exit"] != tt.exit || tt.signal != 0 && e["signal"] != tt.signal {
				t.Errorf("history says exit %v, signal %v; want %v, %v", e["exit"], e["signal"], tt.exit, tt.signal)
			}
			s.Refused(s.LogIn(), "57P03")
			if n := len(s.Failover.Runs()); n != 1 || len(s.Notify.Runs()) != 0 {
				t.Errorf("%d runs of failover, %d of notify; want 1 and 0", n, len(s.Notify.Runs()))
			}
			if s.Epoch() != 1 {
				t.Errorf("epoch %d, want 1: a failed run changes no primary", s.Epoch())
			}
		})
	}
}

// What the guide says of a failover_script that failed and has promoted nothing: mend
// it, clear the candidate, and trigger the failover to it. The other standby needs no
// clear.
func TestAFailedScriptIsMendedAndTheFailoverTriggeredAnew(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{true, false} {
		t.Run(fmt.Sprintf("to the same standby %v", again), func(t *testing.T) {
			t.Parallel()
			s := pool.PlayOpen(t, 2, pool.Plan{Script: "exit 3"})
			s.Kill(1)
			s.Held("ended with exit code 3")
			to := fmt.Sprint(s.Told("failover")["new"])
			s.Pool.WaitState(to, "Failed")
			pool.WriteFile(t, s.Failover.Path, "#!/bin/sh\n"+pool.PromoteScript(s.Cluster), 0o755)
			if again {
				s.Do("clear", "server", to)
			} else {
				to = map[string]string{"n2": "n3", "n3": "n2"}[to]
			}
			s.Do("failover", "trigger", "--to", to)
			s.Opened(to)
		})
	}
}

func TestAScriptThatMayNotRunAnyMoreIsRefusedWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, why string
		damage    func(t *testing.T, path string)
	}{
		{"not executable", "has mode 0644", func(t *testing.T, path string) { pool.Must(t, os.Chmod(path, 0o644)) }},
		{"writable by others", "others can change what is run", func(t *testing.T, path string) { pool.Must(t, os.Chmod(path, 0o757)) }},
		{"replaced by one that others can write", "others can change what is run", func(t *testing.T, path string) {
			pool.WriteFile(t, path+".new", "#!/bin/sh\nexit 0\n", 0o777)
			pool.Must(t, os.Rename(path+".new", path))
		}},
		{"gone", "no such file", func(t *testing.T, path string) { pool.Must(t, os.Remove(path)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := pool.PlayOpen(t, 1, pool.Plan{})
			tt.damage(t, s.Failover.Path)
			s.Kill(1)
			s.Held(tt.why)
			s.NothingRan()
			s.Pool.WaitState("n1", "Failed")
			s.Pool.WaitState("n2", "Replica") // nothing has touched it
			pool.Says(t, s.Told("failover"), "result", tt.why)
		})
	}
}

func TestAtItsTimeoutAllThatAScriptStartedIsEnded(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{
		Keys: map[string]string{"failover_script_timeout": "4s"},
		Script: `trap '' TERM
echo first line
sleep 1001 & echo "pid $!"
setsid sh -c 'trap "" TERM; sleep 1002' & echo "pid $!"
echo "pid $$"
echo to standard error >&2
while :; do sleep 1003; done`,
	})
	s.Kill(1)
	s.Held("took longer than 4s")
	s.Pool.WaitState("n1", "Failed")
	s.Pool.WaitState("n2", "Failed")
	e := s.Told("failover")
	if e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	output := fmt.Sprint(e["output"])
	pids := 0
	for _, line := range strings.Split(output, "\n") {
		s.Pool.WaitLog(line)
		if id, ok := strings.CutPrefix(line, "pid "); ok {
			pid, err := strconv.Atoi(id)
			pool.Must(t, err)
			pids++
			if proc.ProcessAlive(pid) {
				t.Errorf("process %d of the script lives on", pid)
			}
		}
	}
	if pids != 3 || !strings.Contains(output, "first line\n") || !strings.Contains(output, "to standard error") {
		t.Errorf("output in the history: %q", output)
	}
	if n := len(s.Failover.Runs()); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
}

func TestAScriptCanAskPgagroalWhileItRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	cli := fmt.Sprintf("%s -c %s", pool.Program("pgagroal-cli"), s.Pool.Path("pgagroal.conf"))
	body := fmt.Sprintf(`for w in status "failover status" ping; do %[1]s $w >/dev/null 2>&1; echo "$w: $?"; done
%[1]s --format tree failover status | grep -E 'Phase|Hook:'
%[1]s switch-to n2 2>&1; echo "switch-to: $?"
%[1]s clear server n1 2>&1; echo "clear: $?"
`, cli)
	s.Failover = s.Pool.Hook("failover.sh", body+pool.PromoteScript(c))
	s.Pool.Run()
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	out := fmt.Sprint(s.Told("failover")["output"])
	for _, want := range []string{"status: 0", "failover status: 0", "ping: 0", "Hook: failover", "Phase: running", "switch-to: 1", "clear: 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the script doesn't say %q:\n%s", want, out)
		}
	}
}

func TestAFailingNotifyScriptChangesNothingAndIsShown(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 2, pool.Plan{Notify: "echo cannot reach the standby; exit 5"})
	s.Kill(1)
	s.Opened("n2")
	s.Alarmed("notify")
	e := s.Told("notify")
	if e["exit"] != 5.0 || !strings.Contains(fmt.Sprint(e["output"]), "cannot reach the standby") {
		t.Errorf("history: %v", e)
	}
	s.Pool.WaitLog("cannot reach the standby")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	s.Pool.WaitState("n2", "Primary")
	if n := len(s.Notify.Runs()); n != 1 || s.Epoch() != 2 {
		t.Errorf("%d runs of notify in epoch %d; want 1 in 2", n, s.Epoch())
	}
}

func TestAHangingNotifyScriptDelaysNobodyAndIsEnded(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Notify: "sleep 1000", Keys: map[string]string{"failover_notify_timeout": "10s"}})
	s.Kill(1)
	s.Notify.WaitRuns(1)
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	if n := len(s.History("notify")); n != 0 {
		t.Fatal("clients have waited for the notify script")
	}
	s.Alarmed("notify")
	if e := s.Told("notify"); e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
}

func TestManyClientsThatSeeTheDeathMakeOneRun(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	ended := make(chan struct{}, 20)
	for range cap(ended) {
		cl := s.Pool.Connect()
		pool.MustQuery(t, cl, "SELECT 1")
		go func() {
			_, _ = pool.Query(cl, "SELECT pg_sleep(60)") // ends with the server
			ended <- struct{}{}
		}()
	}
	pool.WaitNode(t, s.Node(1), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", "20")
	s.Kill(1)
	for range cap(ended) {
		<-ended
	}
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	if s.Epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.Epoch())
	}
}

func TestWithoutFailoverNothingRuns(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"failover": "off", "health_check": "on", "health_check_period": "1s"}})
	if s.Pool.Runner() != 0 {
		t.Error("there is a runner, with nothing to run")
	}
	s.Kill(1)
	s.Alarmed("failover is off")
	s.Quiet(500 * time.Millisecond) // a run would start 100 ms after such an alarm
	if ok, err := s.Node(2).InRecovery(pool.Within(t)); err != nil || !ok {
		t.Errorf("n2 in recovery: %v, %v", ok, err)
	}
}
