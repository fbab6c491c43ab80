package supervisor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// consoleUp brings a console up beside so many workers.
func consoleUp(t *testing.T, workers int) (*world, *fakeChild) {
	t.Helper()
	w := newWorld(t, workers, func(c *config.Config) { c.Metrics = 5001 })
	w.up()
	w.s.startAide(&w.s.console.aide)
	w.settle()
	return w, w.greetedConsole()
}

// greetedConsole has the console that was started last say hello.
func (w *world) greetedConsole() *fakeChild {
	f := w.children[len(w.children)-1]
	if f.spec.role != proc.RoleConsole {
		w.t.Fatalf("the last child is a %s", f.spec.role)
	}
	f.message(&ipc.ConsoleHello{Version: ipc.Version})
	f.message(&ipc.ConsoleReady{})
	w.settle()
	return f
}

// statsOf has a worker answer the last request for figures with a number of queries.
func (w *world) statsOf(f *fakeChild, queries uint64) {
	w.t.Helper()
	asked := messagesOf[*ipc.StatsRequest](f)
	if len(asked) == 0 {
		w.t.Fatal("the worker wasn't asked")
	}
	id := asked[len(asked)-1].ID
	part, err := ipc.Pack(&ipc.WorkerStats{Counters: map[string]uint64{"query_count": queries}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.say(f, &ipc.Stats{ID: id, Part: part})
	w.say(f, &ipc.StatsEnd{ID: id})
}

// queriesIn adds up the queries of the last snapshot.
func queriesIn(t *testing.T, f *fakeChild) (sum uint64) {
	t.Helper()
	ends := messagesOf[*ipc.SnapshotEnd](f)
	if len(ends) == 0 {
		t.Fatal("there is no snapshot")
	}
	id := ends[len(ends)-1].ID
	for _, m := range messagesOf[*ipc.SnapshotStats](f) {
		if m.ID != id {
			continue
		}
		var s ipc.WorkerStats
		if err := m.Part.Unpack(&s); err != nil {
			t.Fatal(err)
		}
		sum += s.Counters["query_count"]
	}
	return sum
}

func TestNothingIsCollectedWhileNobodyLooks(t *testing.T) {
	w, console := consoleUp(t, 1)
	w.live(time.Minute)
	if n := len(messagesOf[*ipc.StatsRequest](w.children[0])); n > 0 {
		t.Errorf("the worker was asked %d times", n)
	}
	w.say(console, &ipc.SnapshotRequest{ID: 1})
	begin := messagesOf[*ipc.SnapshotBegin](console)
	if len(begin) != 0 {
		t.Error("an answer came before the timers ran")
	}
	w.advance(0)
	if begin = messagesOf[*ipc.SnapshotBegin](console); len(begin) != 1 || begin[0].ID != 1 {
		t.Fatalf("the snapshot doesn't begin: %+v", begin)
	}
	if len(messagesOf[*ipc.SnapshotEnd](console)) != 0 {
		t.Error("the snapshot ends before the worker has answered")
	}
	w.statsOf(w.children[0], 7)
	if got := queriesIn(t, console); got != 7 {
		t.Errorf("%d queries, want 7", got)
	}
	// Within a second of the last one no other begins.
	w.say(console, &ipc.SnapshotRequest{ID: 2})
	w.advance(snapshotPause - time.Millisecond)
	if n := len(messagesOf[*ipc.SnapshotBegin](console)); n != 1 {
		t.Errorf("%d snapshots within a second", n)
	}
	w.advance(time.Millisecond)
	if n := len(messagesOf[*ipc.SnapshotBegin](console)); n != 2 {
		t.Errorf("%d snapshots after a second, want 2", n)
	}
}

// snapshot has the console ask, and lets a second pass before.
func (w *world) snapshot(console *fakeChild, id uint64) {
	w.advance(snapshotPause)
	w.say(console, &ipc.SnapshotRequest{ID: id})
	w.advance(0)
}

// A worker that hangs is shown as it was, and keeps nobody waiting.
func TestASnapshotWaitsForNoWorkerThatHangs(t *testing.T) {
	w, console := consoleUp(t, 2)
	w.snapshot(console, 1)
	w.statsOf(w.children[0], 5)
	w.statsOf(w.children[1], 50)
	w.snapshot(console, 2)
	w.statsOf(w.children[1], 60)
	w.advance(statsLimit)
	if got := queriesIn(t, console); got != 65 {
		t.Errorf("%d queries, want 65", got)
	}
	if n := len(messagesOf[*ipc.SnapshotEnd](console)); n != 2 {
		t.Errorf("%d snapshots have ended, want 2", n)
	}
}

// TestTheTimeOfAWorkerThatHangsGrows: its last good answer says nothing about now.
func TestTheTimeOfAWorkerThatHangsGrows(t *testing.T) {
	w, _ := consoleUp(t, 1)
	c := w.s.workers.slots[0].child
	w.s.console.usage.now = map[string]processUse{"worker 0": {pid: c.started.pid}}
	shown := func() (us int64) {
		us = -2
		w.s.snapshotProcesses(1, func(m ipc.Message) { us = m.(*ipc.SnapshotProcess).AnswerUS })
		return us
	}
	if us := shown(); us != -1 {
		t.Errorf("a worker that wasn't asked shows %d us", us)
	}
	ask := func() {
		w.s.askStats(&ipc.SnapshotRequest{}, func() {})
		w.settle()
	}
	ask()
	w.advance(3 * time.Millisecond)
	if us := shown(); us != 3000 {
		t.Errorf("%d us before the first answer", us)
	}
	w.statsOf(w.children[0], 1)
	w.advance(time.Second)
	if us := shown(); us != 3000 {
		t.Errorf("%d us after an answer within 3 ms", us)
	}
	ask()
	w.advance(statsLimit)
	if us := shown(); us != statsLimit.Microseconds() {
		t.Errorf("%d us when the worker has been silent until the limit", us)
	}
}

// TestARunnerIsWantedOnlyForScripts: with failover_mode = follow nobody misses it.
func TestARunnerIsWantedOnlyForScripts(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	if !w.s.failoverFacts(w.machine.status).RunnerWanted {
		t.Error("not wanted where scripts run")
	}
	w.s.cfg.FailoverMode = config.ModeFollow
	if w.s.failoverFacts(w.machine.status).RunnerWanted {
		t.Error("wanted with failover_mode = follow")
	}
}

func TestWhatADeadWorkerHasCountedStays(t *testing.T) {
	w, console := consoleUp(t, 2)
	w.snapshot(console, 1)
	w.statsOf(w.children[0], 5)
	w.statsOf(w.children[1], 50)
	w.die(w.children[0])
	w.advance(time.Millisecond)
	w.hello(w.children[len(w.children)-1])
	w.snapshot(console, 2)
	w.statsOf(w.children[1], 51)
	w.statsOf(w.children[len(w.children)-1], 1)
	if got := queriesIn(t, console); got != 5+51+1 {
		t.Errorf("%d queries, want 57", got)
	}
	// Another console gets the same base.
	console.exited("signal: killed")
	w.settle()
	w.advance(time.Millisecond)
	next := w.greetedConsole()
	w.snapshot(next, 1)
	w.statsOf(w.children[1], 51)
	w.advance(statsLimit)
	if got := queriesIn(t, next); got != 5+51+1 {
		t.Errorf("the next console is told of %d queries, want 57", got)
	}
}

func TestAConsoleThatAsksTwiceOrIsOfAnotherReleaseIsKilled(t *testing.T) {
	w, console := consoleUp(t, 1)
	w.say(console, &ipc.SnapshotRequest{ID: 1})
	w.say(console, &ipc.SnapshotRequest{ID: 2})
	if !console.killed {
		t.Error("it asks twice and isn't killed")
	}
	console.exited("signal: killed")
	w.settle()
	w.advance(time.Millisecond)
	next := w.children[len(w.children)-1]
	next.message(&ipc.ConsoleHello{Version: ipc.Version, Build: "0.1"})
	w.settle()
	if next == console || !next.killed {
		t.Error("another release isn't killed")
	}
}

// A worker may have more pools than there is room for: its clients may wait for so many. It
// isn't to blame for that.
func TestFiguresBeyondTheBoundAreNotKept(t *testing.T) {
	w, console := consoleUp(t, 1)
	w.snapshot(console, 1)
	f := w.children[0]
	asked := messagesOf[*ipc.StatsRequest](f)
	for range w.s.snapshotItems() + 10 {
		w.say(f, &ipc.Stats{ID: asked[0].ID, Part: ipc.Packed("x")})
	}
	x := &w.s.workers.slots[0].child.stats
	if f.killed || len(x.next) != w.s.snapshotItems() {
		t.Errorf("killed %v, %d parts are kept", f.killed, len(x.next))
	}
	w.say(f, &ipc.Stats{ID: asked[0].ID, Part: ipc.Packed(strings.Repeat("x", 100))})
	x.next, x.size = nil, maxStatsSize-50
	w.say(f, &ipc.Stats{ID: asked[0].ID, Part: ipc.Packed(strings.Repeat("x", 100))})
	if len(x.next) != 0 {
		t.Error("more bytes than the bound are kept")
	}
}

func TestFiguresThatADeadWorkerMadeUpDoNotCount(t *testing.T) {
	w, _ := consoleUp(t, 1)
	lies := ipc.WorkerStats{Counters: map[string]uint64{}}
	for i := range maxCounters + 1 {
		lies.Counters[fmt.Sprint(i)] = 1
	}
	for i := range 100 {
		lies.Servers = append(lies.Servers, ipc.ServerTimes{Server: i - 50})
	}
	packed, err := ipc.Pack(&lies)
	if err != nil {
		t.Fatal(err)
	}
	w.s.workers.slots[0].child.stats.last = []ipc.Packed{packed}
	w.s.keepStats(w.s.workers.slots[0].child)
	if b := &w.s.console.base; len(b.Counters) != 0 || len(b.Servers) != len(w.s.cfg.Servers) {
		t.Errorf("%d counters, %d servers", len(b.Counters), len(b.Servers))
	}
}

// TestProblemsAreCountedWhereFailoverIsOn counts what a rehearsal finds, remarks aside, and
// what only the supervisor knows of.
func TestProblemsAreCountedWhereFailoverIsOn(t *testing.T) {
	w, console := consoleUp(t, 1)
	problems := func(id uint64) int {
		w.snapshot(console, id)
		w.statsOf(w.children[0], 1)
		all := messagesOf[*ipc.SnapshotBegin](console)
		return all[len(all)-1].Failover.Problems
	}
	w.machine.findings = []failover.Finding{{Text: "it isn't streaming", Grave: true}, {Text: "its replay is delayed"}}
	if n := problems(1); n != 0 {
		t.Errorf("%d problems without failover", n)
	}
	w.machine.status.Enabled = true
	before := problems(2)
	w.machine.findings[1].Grave = true
	if n := problems(3); n != before+1 {
		t.Errorf("%d problems with one more, then %d", n, before)
	}
	w.s.dir.Usable = !w.s.dir.Usable
	n := problems(4)
	if d := n - before - 1; d != 1 && d != -1 {
		t.Errorf("state_dir counts for %d problems", d)
	}
}

// TestLinesOfAllProcessesCount: each says how many it has logged since its start. What one that was taken over says can't
// make the counts fall, and a service has a log of its own.
func TestLinesOfAllProcessesCount(t *testing.T) {
	w := newWorld(t, 0, func(c *config.Config) { c.Metrics = 5001 })
	ours := w.s.snapshotBegin(1).Logged
	p, r := &aideEnd{of: &w.s.console.aide}, &runnerEnd{spawned: true, ready: &ipc.RunnerReady{}}
	w.s.runner.end = r
	say := func(logged ...uint64) {
		w.s.onSnapshotRequest(p, &ipc.SnapshotRequest{Logged: logged})
		w.s.console.asked = nil
	}
	say(1, 2, 3, 4)
	say(2, 2, 3, 4)
	say(0, 0)
	w.s.onHooksChecked(r, &ipc.HooksChecked{Logged: []uint64{10, 0, 0, 0, 99}})
	r.spawned = false
	w.s.onHooksChecked(r, &ipc.HooksChecked{Logged: []uint64{50, 50, 50, 50}})
	got := w.s.snapshotBegin(2).Logged
	for i, want := range []uint64{12, 2, 3, 4} {
		if n := got[i] - ours[i]; n != want {
			t.Errorf("%d lines of level %d, want %d", n, i, want)
		}
	}
	w.s.clearFigures(func() {})
	say(3, 2, 3, 4)
	if got := w.s.snapshotBegin(3).Logged; got[0] != 1 || got[3] != 0 {
		t.Errorf("after they were cleared there are %v", got)
	}
}
