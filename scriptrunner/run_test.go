package scriptrunner

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

var noDuration = cmpopts.IgnoreFields(ipc.RunEnded{}, "DurationMS")

func TestOutcomeIsThatOfTheScript(t *testing.T) {
	for i, c := range []struct {
		script string
		want   ipc.RunEnded
	}{
		{"exit 0", ipc.RunEnded{Exit: 0}},
		{"exit 3", ipc.RunEnded{Exit: 3}},
		{"kill -KILL $$", ipc.RunEnded{Exit: -1, Signal: "SIGKILL"}},
		{"kill -USR1 $$", ipc.RunEnded{Exit: -1, Signal: "SIGUSR1"}},
		{"exec >&- 2>&-; exit 5", ipc.RunEnded{Exit: 5}},
		{"cat; exit 6", ipc.RunEnded{Exit: 6}}, // standard input is at its end
		{"exec /no/such/program", ipc.RunEnded{Exit: 127}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := simple(t, nil, c.script)
			c.want.RunID, c.want.Hook = r.id(1), "failover"
			if diff := cmp.Diff(&c.want, r.perform(r.newRun("failover")), noDuration); diff != "" {
				t.Error(diff)
			}
			// It is told again to whoever asks.
			if diff := cmp.Diff([]ipc.RunEnded{c.want}, r.ready().Results, noDuration); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScriptGetsExactlyItsSurroundings(t *testing.T) {
	allowCoreDumps(t)
	r := simple(t, nil, `
tr '\0' '\n' < /proc/$$/environ | sort
echo fds $(ls /proc/self/fd) $(readlink /proc/self/fd/0)
echo umask $(umask) cwd $(pwd) core $(ulimit -c)
read -r stat < /proc/$$/stat; set -- ${stat##*)}
echo group $(($3 - $$)) session $(($4 - $$)) parent $2
grep NoNewPrivs /proc/$$/status
echo oops >&2`)
	m := r.newRun("failover")
	m.Env = map[string]string{"EPOCH": "4", "REASON": "it's gone; $(x)", "RUN_ID": "forged", "LSN": "0/1"}
	if e := r.perform(m); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
	user := "USER=" + os.Getenv("USER")
	want := []string{
		"", "LANG=C", "PATH=/usr/bin:/bin", "PGAGROAL_EPOCH=4", "PGAGROAL_LSN=0/1", "PGAGROAL_REASON=it's gone; $(x)", "PGAGROAL_RUN_ID=" + m.RunID, "",
		// The last descriptor is the listing itself.
		"fds 0 1 2 3 /dev/null", "umask 0077 cwd / core 0",
		fmt.Sprintf("group 0 session 0 parent %d", r.process.Pid), "NoNewPrivs:\t0", "oops",
	}
	got := r.text()
	env, err := environment(m)
	if err != nil {
		t.Fatal(err)
	}
	// HOME and USER are those of whoever runs the test.
	i, j := slices.IndexFunc(env, hasPrefix("HOME=")), slices.IndexFunc(env, hasPrefix("USER="))
	want[0], want[7] = env[i], env[j]
	if user != "USER=" && user != env[j] {
		t.Errorf("%s, but the environment says %s", env[j], user)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// allowCoreDumps raises the limit for this process, and so for the runner. Where
// only 0 is allowed there is nothing to switch off.
func allowCoreDumps(t *testing.T) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &old); err != nil {
		t.Fatal(err)
	}
	raised := syscall.Rlimit{Cur: old.Max, Max: old.Max}
	if os.Getuid() == 0 && old.Max == 0 {
		raised = syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &raised); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &old); err != nil {
			t.Error(err)
		}
	})
}

func hasPrefix(p string) func(string) bool {
	return func(s string) bool { return strings.HasPrefix(s, p) }
}

func TestArgumentsReachTheScriptLiterally(t *testing.T) {
	r := newRig(t, nil)
	// The working directory of this process is another one.
	r.script("show", `pwd; for a in "$@"; do printf '<%s>\n' "$a"; done`)
	args := []string{"two words", `"quoted" 'both'`, "fe80::1%eth0", ";$(touch x)`id`", "", "*", "-n", "a\nb"}
	p, out, err := execute(r.path("show"), args, []string{"PATH=/usr/bin:/bin"}, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.pipe)
	if err != nil {
		t.Fatal(err)
	}
	out.close()
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("/\n<"+strings.Join(args, ">\n<")+">\n", string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestTimeoutEndsWhatHasLeftTheGroupToo(t *testing.T) {
	r := simple(t, settings{"failover_script_timeout": "3s", "failover_kill_delay": "200ms"}, `
trap '' TERM
sleep 1001 & echo $!
setsid sleep 1002 & echo $!
env -i /usr/bin/setsid /bin/sleep 1003 & echo $!
setsid sh -c 'trap "" TERM; (setsid sleep 1004 & echo $!)'
echo $$
sleep 1005`)
	e := r.perform(r.newRun("failover"))
	want := &ipc.RunEnded{RunID: r.id(1), Hook: "failover", Exit: -1, Signal: "SIGKILL", TimedOut: true}
	if diff := cmp.Diff(want, e, noDuration); diff != "" {
		t.Error(diff)
	}
	if len(r.lines) != 5 {
		t.Fatalf("output %q", r.text())
	}
	for _, l := range r.text() {
		if proc.ProcessAlive(number(t, l)) {
			t.Errorf("process %s lives on", l)
		}
	}
}

func TestTimeoutTermIsEnoughForAScriptThatListens(t *testing.T) {
	// With a kill delay beyond the limit of the test SIGKILL can't have done it.
	r := simple(t, settings{"failover_script_timeout": "3s", "failover_kill_delay": "1h"}, `
trap 'echo tidied up; exit 9' TERM
while :; do sleep 0.05; done`)
	e := r.perform(r.newRun("failover"))
	if e.Exit != 9 || !e.TimedOut || !slices.Contains(r.text(), "tidied up") {
		t.Errorf("ended with %+v, output %q", e, r.text())
	}
}

func TestStoppedRunEndsAsAtItsTimeout(t *testing.T) {
	r := simple(t, settings{"failover_script_timeout": "1h", "failover_kill_delay": "200ms"}, `
trap '' TERM
setsid sleep 1002 & echo $!
echo $$
while :; do sleep 0.05; done`)
	m := r.newRun("notify")
	r.begin(m)
	r.line()
	r.line()
	r.send(&ipc.StopRun{RunID: "another"})
	if running := r.ready().Running; running != m.RunID {
		t.Fatalf("%q is said to run", running)
	}
	r.send(&ipc.StopRun{RunID: m.RunID})
	r.send(&ipc.StopRun{RunID: m.RunID}) // changes nothing
	want := &ipc.RunEnded{RunID: m.RunID, Hook: "notify", Exit: -1, Signal: "SIGKILL"}
	if diff := cmp.Diff(want, r.end(), noDuration); diff != "" {
		t.Error(diff)
	}
	for _, l := range r.text() {
		if proc.ProcessAlive(number(t, l)) {
			t.Errorf("process %s lives on", l)
		}
	}
	r.send(&ipc.StopRun{RunID: m.RunID}) // is over
	if running := r.ready().Running; running != "" {
		t.Errorf("%q is said to run", running)
	}
}

// The supervisor says it in the same log.
func TestRunnerOfASupervisorIsSilentAboutRuns(t *testing.T) {
	r := simple(t, nil, "exit 3")
	m := r.newRun("failover")
	r.perform(m)
	r.refused(m, "executed before")
	r.stop()
	if b, err := os.ReadFile(r.path("log")); err != nil || len(b) > 0 && strings.Contains(string(b), m.RunID) {
		t.Errorf("%v, log:\n%s", err, b)
	}
}

func TestStoppedRunMayTidyUp(t *testing.T) {
	// With a kill delay beyond the limit of the test SIGKILL can't have done it.
	r := simple(t, settings{"failover_kill_delay": "1h"}, `
trap 'echo tidied up; exit 9' TERM
echo up
while :; do sleep 0.05; done`)
	m := r.newRun("notify")
	r.begin(m)
	r.line()
	r.send(&ipc.StopRun{RunID: m.RunID})
	if e := r.end(); e.Exit != 9 || e.TimedOut || !slices.Contains(r.text(), "tidied up") {
		t.Errorf("ended with %+v, output %q", e, r.text())
	}
}

func TestServerThatAScriptStartedIsLeftAlone(t *testing.T) {
	r := newRig(t, settings{"failover_notify_timeout": "300ms"})
	open := r.gate("gate")
	r.script("failover", `
setsid sh -c 'read x < `+r.path("gate")+`; echo late; echo still there > `+r.path("proof")+`; exec sleep 1000' &
echo $!
# One without the marks of its run.
env -i /usr/bin/setsid /bin/sleep 1000 >/dev/null 2>&1 &
echo $!; exit 0`)
	r.script("notify", "sleep 1000")
	r.spawn()
	r.ready()
	if e := r.perform(r.newRun("failover")); e.Exit != 0 || e.TimedOut {
		t.Errorf("ended with %+v", e)
	}
	if len(r.lines) != 2 {
		t.Fatalf("output %q", r.text())
	}
	pid, unmarked := number(t, r.text()[0]), number(t, r.text()[1])
	killAtEnd(t, pid)
	killAtEnd(t, unmarked)
	// A later run that is ended by force doesn't reach it.
	if e := r.perform(r.newRun("notify")); !e.TimedOut {
		t.Errorf("ended with %+v", e)
	}
	if !proc.ProcessAlive(pid) || !proc.ProcessAlive(unmarked) {
		t.Fatal("a server was killed with another run")
	}
	// Its output goes nowhere, but to write doesn't hurt it.
	open()
	waitUntil(t, "the server writes its proof", func() bool {
		b, err := os.ReadFile(r.path("proof"))
		return err == nil && string(b) == "still there\n"
	})
	if !proc.ProcessAlive(pid) {
		t.Error("the server was ended by its own output")
	}
}

func TestOutputIsPassedOnLineByLineAndCut(t *testing.T) {
	r := simple(t, nil, `
printf 'one\r\n\ntwo\n'
head -c 5000 /dev/zero | tr '\0' x; echo
printf 'bad \377 byte\n'
printf 'no end'`)
	r.perform(r.newRun("failover"))
	want := []*ipc.RunOutput{
		{Line: "one"},
		{},
		{Line: "two"},
		{Line: strings.Repeat("x", maxLine), Cut: true},
		{Line: "bad \uFFFD byte"},
		{Line: "no end"},
	}
	for _, w := range want {
		w.RunID = r.id(1)
	}
	if diff := cmp.Diff(want, r.lines); diff != "" {
		t.Error(diff)
	}
}

func TestFloodOfOutputNeitherBlocksNorGrows(t *testing.T) {
	r := simple(t, nil, `yes 'a line of output that is repeated far too often' | head -c 100000000; exit 0`)
	before := peakMemory(t, r.process.Pid)
	if e := r.perform(r.newRun("failover")); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
	if grown := peakMemory(t, r.process.Pid) - before; grown > 40<<20 {
		t.Errorf("memory has grown by %d bytes", grown)
	}
	size, cuts := 0, 0
	for _, l := range r.lines {
		size += len(l.Line) + 1
		if l.Cut {
			cuts++
		}
	}
	if size > maxOutput || size < maxOutput/2 || cuts != 1 || !r.lines[len(r.lines)-1].Cut {
		t.Errorf("%d bytes in %d lines, %d of them marked", size, len(r.lines), cuts)
	}
}

func TestManyShortLinesAreBoundedToo(t *testing.T) {
	r := simple(t, nil, `yes | head -n 100000`)
	if e := r.perform(r.newRun("failover")); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
	if n := len(r.lines); n != maxLines+1 || !r.lines[n-1].Cut {
		t.Errorf("%d lines", n)
	}
}

func TestOneRunAtATime(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate"))
	r.script("notify", "exit 0")
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	r.begin(m)
	r.line()
	r.refused(r.newRun("notify"), r.id(1)+" is still in progress")
	if running := r.ready().Running; running != r.id(1) {
		t.Errorf("%q is said to run", running)
	}
	open()
	if e := r.end(); e.Exit != 0 || e.RunID != r.id(1) {
		t.Errorf("ended with %+v", e)
	}
	if running := r.ready().Running; running != "" {
		t.Errorf("%q is said to run", running)
	}
}

func TestNoRunTwiceNotEvenByTheNextRunner(t *testing.T) {
	r := simple(t, nil, "exit 0")
	m := r.newRun("failover")
	r.perform(m)
	r.refused(m, "executed before")
	m.Hook = "notify"
	r.refused(m, "executed before")
	r.stop()

	r.spawn()
	r.ready()
	r.refused(m, "executed before")
	if e := r.perform(r.newRun("notify")); e.Exit != 0 {
		t.Errorf("a new run ended with %+v", e)
	}
}

func TestRunIsBoundToTheConfiguration(t *testing.T) {
	r := simple(t, nil, "exit 0")
	a, b, c := servers[0], servers[1], servers[2]
	for _, x := range []struct {
		hook string
		args []string
		why  string
	}{
		{"/bin/sh", args(), "no hook"},
		{r.path("failover"), args(), "no hook"},
		{"", args(), "no hook"},
		{"fence", []string{a[0], a[1]}, "no hook"},
		{"failover", nil, "0 arguments"},
		{"failover", args()[:3], "3 arguments"},
		{"failover", append(args(), c[0], c[1]), "6 arguments"},
		{"failover", []string{a[0], a[1], a[0], a[1]}, "again"},
		{"failover", []string{a[0], b[1], b[0], b[1]}, "no configured server"},
		{"failover", []string{a[0], "05432", b[0], b[1]}, "no configured server"},
		{"failover", []string{a[0], a[1], "evil.example", b[1]}, "no configured server"},
		{"notify", append(args(), c[0]), "5 arguments"},
		{"notify", args()[:2], "2 arguments"},
		{"notify", append(args(), a[0], a[1]), "again"},
	} {
		m := r.newRun(x.hook)
		m.Args = x.args
		r.refused(m, x.why)
	}
	for _, id := range []string{"", "../x", "a b", "a\n", strings.Repeat("a", 65)} {
		m := r.newRun("failover")
		m.RunID = id
		r.refused(m, "no run id")
	}
	for _, name := range []string{"", "a", "A B", "A=B", "1A"} {
		m := r.newRun("failover")
		m.Env = map[string]string{name: "x"}
		r.refused(m, "no variable")
	}
	m := r.newRun("notify")
	m.Args = append(args(), c[0], c[1])
	if e := r.perform(m); e.Exit != 0 {
		t.Errorf("six arguments of notify ended with %+v", e)
	}
}

func TestScriptIsCheckedWhenItRuns(t *testing.T) {
	r := simple(t, nil, "exit 0")
	if hooks := r.ready().Hooks; !cmp.Equal(hooks, []ipc.HookCheck{{Hook: "failover"}, {Hook: "notify"}}) {
		t.Errorf("hooks at the start: %+v", hooks)
	}
	problem := func(why string) {
		t.Helper()
		r.refused(r.newRun("failover"), why)
		if p := r.ready().Hooks[0].Problem; !strings.Contains(p, why) {
			t.Errorf("reload says %q, expected %q", p, why)
		}
	}
	script := r.path("failover")
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(script, 0o600)
	problem("execute")
	chmod(script, 0o702)
	problem("others can change")
	chmod(script, 0o700)
	chmod(r.dir, 0o777)
	problem("others can change")
	chmod(r.dir, 0o755)
	if os.Getuid() == 0 {
		if err := os.Chown(script, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		problem("owned by user 65534")
	}
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	problem("no such file")
	if err := os.Mkdir(script, 0o755); err != nil {
		t.Fatal(err)
	}
	problem("not a regular file")
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	r.script("failover", "exit 4")
	if e := r.perform(r.newRun("failover")); e.Exit != 4 {
		t.Errorf("a mended script ended with %+v", e)
	}
}

func TestScriptWithoutInterpreterIsRefused(t *testing.T) {
	r := simple(t, nil, "exit 0")
	if err := os.WriteFile(r.path("failover"), []byte("exit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.refused(r.newRun("failover"), "has no #! line")
}

func TestSupervisorGoneLetsTheScriptFinish(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate")+"; echo done > "+r.path("proof"))
	r.spawn()
	r.ready()
	r.begin(r.newRun("failover"))
	r.line()
	r.conn.Close()
	// Until the runner is gone the lock of state_dir is held.
	waiting, held, _, err := proc.Lock(r.dir)
	if !held || err != nil {
		t.Fatalf("lock held %v, %v", held, err)
	}
	waiting.Close()
	open()
	r.wait()
	if b, err := os.ReadFile(r.path("proof")); err != nil || string(b) != "done\n" {
		t.Errorf("the script left %q, %v", b, err)
	}
	lock, held, _, err := proc.Lock(r.dir)
	if held || err != nil {
		t.Fatalf("lock held %v, %v", held, err)
	}
	lock.Close()
}

func TestSupervisorGoneDoesNotLiftTheTimeout(t *testing.T) {
	r := simple(t, settings{"failover_script_timeout": "300ms"}, "sleep 1000")
	pid := r.begin(r.newRun("failover"))
	r.conn.Close()
	r.wait()
	if !proc.GroupEmpty(pid) {
		t.Error("the group lives on")
	}
}

func TestTermWaitsForTheRunAndReportsIt(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate")+"; echo end; exit 8")
	r.spawn()
	r.ready()
	r.begin(r.newRun("failover"))
	r.line()
	if err := r.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the runner refuses because it stops", func() bool {
		r.send(r.newRun("notify"))
		return strings.Contains(receive[*ipc.RunEnded](r).Refused, "is stopping")
	})
	open()
	if e := r.end(); e.Exit != 8 || !slices.Equal(r.text(), []string{"up", "end"}) {
		t.Errorf("ended with %+v, output %q", e, r.text())
	}
	r.wait()
}

func TestBadReloadKeepsTheOldHooks(t *testing.T) {
	r := simple(t, nil, "exit 0")
	good := r.ready()
	if good.Digest == "" || good.Error != "" {
		t.Errorf("ready %+v", good)
	}
	conf := r.conf
	r.conf = r.path("missing")
	if bad := r.ready(); bad.Error == "" || bad.Digest != good.Digest {
		t.Errorf("ready without a configuration %+v", bad)
	}
	if e := r.perform(r.newRun("failover")); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
	r.conf = conf
	r.configure(settings{"failover_script": r.path("notify")})
	if again := r.ready(); again.Error != "" || again.Digest == good.Digest {
		t.Errorf("ready after a change %+v", again)
	}
}

func TestWithoutAConfigurationNothingRuns(t *testing.T) {
	r := newRig(t, nil)
	r.spawn()
	r.conf = r.path("missing")
	if m := r.ready(); m.Error == "" || m.Digest != "" || len(m.Hooks) != 0 {
		t.Errorf("ready %+v", m)
	}
	r.refused(r.newRun("failover"), "no configuration")
}

func TestNothingIsLeftOpenByManyRuns(t *testing.T) {
	r := simple(t, nil, "exit 0")
	fds := func() int {
		e, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	r.perform(r.newRun("failover"))
	first := fds()
	for range keepResults + 4 {
		r.perform(r.newRun("failover"))
	}
	waitUntil(t, "all descriptors are closed", func() bool { return fds() <= first })
	if n := len(r.ready().Results); n != keepResults {
		t.Errorf("%d results are kept", n)
	}
}

func TestRunTakesNoLongerThanItsScript(t *testing.T) {
	r := simple(t, nil, "exit 0")
	least := limit
	for range 10 { // a run that waits does so each time, and a busy machine takes so long now and then
		least = min(least, time.Duration(r.perform(r.newRun("failover")).DurationMS)*time.Millisecond)
	}
	if least >= pipeWait {
		t.Errorf("waited %v although nobody held the pipe", least)
	}
}
