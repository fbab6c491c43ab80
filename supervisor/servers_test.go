package supervisor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// act makes the machine return these actions now.
func (w *world) act(list ...failover.Action) {
	w.machine.react = func(failover.Event) []failover.Action {
		w.machine.react = nil
		return list
	}
	w.s.feed(failover.Tick{})
}

func TestFenceWaitsForEveryWorker(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 7})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 6}) // of an earlier fence
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Fatal("fenced without worker 1")
	}
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 7})
	if diff := cmp.Diff([]failover.Fenced{{Epoch: 1, Seq: 7}}, eventsOf[failover.Fenced](w)); diff != "" {
		t.Error(diff)
	}
}

func TestWorkerThatDoesNotLetGoIsKilledAndItsExitAwaited(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 7})
	w.advance(w.s.cfg.FenceTimeout + w.s.cfg.FenceTimeout/5 - time.Millisecond)
	if w.children[1].killed {
		t.Fatal("killed without a second look")
	}
	w.advance(2 * time.Millisecond)
	if w.children[0].killed || !w.children[1].killed {
		t.Fatalf("killed: %v, %v", w.children[0].killed, w.children[1].killed)
	}
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 7}) // too late to count
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Fatal("fenced before the exit was seen")
	}
	w.die(w.children[1])
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d answers", n)
	}
}

// On a machine that is too busy everybody is late, the supervisor too.
func TestFenceGivesWorkersTheTimeThatTheSupervisorWasLateItself(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	w.settle()
	late := w.s.cfg.FenceTimeout / 2
	w.now += w.s.cfg.FenceTimeout + late
	w.s.timers.run(w.now)
	w.advance(late - time.Millisecond)
	if w.children[0].killed {
		t.Fatal("killed for our own delay")
	}
	w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 7})
	w.advance(w.s.cfg.FenceTimeout)
	if n := len(eventsOf[failover.Fenced](w)); n != 1 || w.children[0].killed {
		t.Errorf("%d answers, killed: %v", n, w.children[0].killed)
	}
}

// A worker that has something to do and gets no processor isn't hung.
func TestFenceWaitsSomeSecondsForAWorkerThatStarves(t *testing.T) {
	for _, answers := range []bool{true, false} {
		w := newWorld(t, 2)
		w.up()
		w.starving = []int{w.s.workers.slots[0].child.started.pid}
		w.act(failover.Fence{Epoch: 1, Seq: 7})
		w.advance(w.s.cfg.FenceTimeout)
		w.advance(w.s.cfg.FenceTimeout / 5)
		if w.children[0].killed || !w.children[1].killed {
			t.Fatalf("killed: the one that starves %v, the other %v", w.children[0].killed, w.children[1].killed)
		}
		w.die(w.children[1])
		for range 10 {
			w.advance(starvedTime/10 - w.s.cfg.FenceTimeout/40)
		}
		if w.children[0].killed {
			t.Fatal("killed while it starves")
		}
		if answers {
			w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 7})
		}
		w.advance(w.s.cfg.FenceTimeout)
		if n := len(eventsOf[failover.Fenced](w)); w.children[0].killed == answers || answers != (n == 1) {
			t.Errorf("it answers: %v; %d answers, killed: %v", answers, n, w.children[0].killed)
		}
	}
}

// Where /proc hides the workers, the time that they have been on a processor shows who starves. What
// the runtime of a worker that hangs uses doesn't count.
func TestFenceWaitsForAWorkerThatRunsNowAndThen(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	runs, hangs := w.s.workers.slots[0].child.started.pid, w.s.workers.slots[1].child.started.pid
	w.cpu = map[int]time.Duration{runs: time.Hour, hangs: time.Hour}
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	w.cpu[runs] += 3 * ranTime
	w.cpu[hangs] += ranTime / 2
	w.advance(w.s.cfg.FenceTimeout)
	w.advance(w.s.cfg.FenceTimeout / 5)
	if w.children[0].killed || !w.children[1].killed {
		t.Fatalf("killed: the one that runs %v, the other %v", w.children[0].killed, w.children[1].killed)
	}
	w.die(w.children[1])
	for range 5 {
		w.cpu[runs] += ranTime
		w.advance(ranWindow / 2)
	}
	if w.children[0].killed {
		t.Fatal("killed while it runs")
	}
	w.advance(ranWindow)
	w.advance(w.s.cfg.FenceTimeout / 5)
	if !w.children[0].killed {
		t.Error("not killed, though it hangs now")
	}
}

func TestFenceGivesUpAWorkerThatRunsForEver(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	pid := w.s.workers.slots[0].child.started.pid
	w.cpu = map[int]time.Duration{}
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	for range 2 * starvedTime / ranWindow {
		w.cpu[pid] += ranTime
		w.advance(ranWindow / 2)
	}
	if w.children[0].killed {
		t.Fatal("killed early")
	}
	for range 4 {
		w.cpu[pid] += ranTime
		w.advance(ranWindow / 2)
	}
	if !w.children[0].killed {
		t.Error("never killed")
	}
}

func TestFenceWaitsForAWorkerThatWasKilledJustBefore(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.s.killWorker(w.s.workers.slots[0].child, "test")
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	if n := len(eventsOf[failover.Fenced](w)); n != 0 {
		t.Fatal("fenced before the exit was seen")
	}
	w.die(w.children[0])
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d answers", n)
	}
}

func TestWorkerThatStartsHasNothingToLetGo(t *testing.T) {
	w := newWorld(t, 1)
	w.s.startWorkers()
	w.settle()
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	if n := len(eventsOf[failover.Fenced](w)); n != 1 {
		t.Errorf("%d answers", n)
	}
}

func TestRepeatedFenceIsOne(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	if n := len(messagesOf[*ipc.Fence](w.children[0])); n != 1 {
		t.Errorf("%d messages", n)
	}
	w.say(w.children[0], &ipc.Fenced{Epoch: 1, Seq: 7})
	w.act(failover.Fence{Epoch: 1, Seq: 7})
	if n := len(eventsOf[failover.Fenced](w)); n != 2 {
		t.Errorf("%d answers", n)
	}
}

func TestNothingOvertakesASave(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	before := len(messagesOf[*ipc.ServerState](w.children[0]))
	w.act(failover.Save{Seq: 3}, failover.Publish{Snapshot: openAt(1, 2)})
	w.act(failover.Fence{Epoch: 1, Seq: 7}) // of a later step
	if n := len(messagesOf[*ipc.ServerState](w.children[0])); n != before {
		t.Error("published before the record was durable")
	}
	if n := len(messagesOf[*ipc.Fence](w.children[0])); n != 0 {
		t.Error("a later action overtook")
	}
	w.settle()
	if len(w.saves) != 1 || len(messagesOf[*ipc.ServerState](w.children[0])) != before+1 || len(messagesOf[*ipc.Fence](w.children[0])) != 1 {
		t.Errorf("%d saves, %d states", len(w.saves), len(messagesOf[*ipc.ServerState](w.children[0])))
	}
	if diff := cmp.Diff([]failover.SaveDone{{Seq: 3}}, eventsOf[failover.SaveDone](w)); diff != "" {
		t.Error(diff)
	}
}

func TestFailedSaveIsToldAndDoesNotStop(t *testing.T) {
	w := newWorld(t, 0)
	w.saveErr = errors.New("disk full")
	w.act(failover.Save{Seq: 3}, failover.Fence{Epoch: 1, Seq: 1})
	w.settle()
	done := eventsOf[failover.SaveDone](w)
	if len(done) != 1 || !errors.Is(done[0].Err, w.saveErr) || len(eventsOf[failover.Fenced](w)) != 1 {
		t.Errorf("%+v, %d fenced", done, len(eventsOf[failover.Fenced](w)))
	}
}

func TestSlowSaveCountsAsFailedAndNeverReplacesANewerOne(t *testing.T) {
	w := newWorld(t, 0)
	w.act(failover.Save{Seq: 1, Record: failover.Record{Epoch: 1}})
	stuck := w.work // the disk hangs
	w.work = nil
	w.advance(saveLimit + time.Millisecond)
	done := eventsOf[failover.SaveDone](w)
	if len(done) != 1 || !errors.Is(done[0].Err, errSaveLate) {
		t.Fatalf("%+v", done)
	}
	w.act(failover.Save{Seq: 2, Record: failover.Record{Epoch: 2}})
	if len(w.work) != 0 {
		t.Fatal("two writes at a time")
	}
	w.work = stuck
	w.settle()
	if done = eventsOf[failover.SaveDone](w); len(done) != 2 || done[1].Seq != 2 || done[1].Err != nil {
		t.Errorf("%+v", done)
	}
	last, err := failover.DecodeRecord(w.saves[len(w.saves)-1])
	if err != nil || last.Epoch != 2 {
		t.Errorf("the last record written is %+v, %v", last, err)
	}
}

func TestActivityIsTheSmallestAge(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.AskActivity{Server: 0}, failover.AskActivity{Server: 1})
	if n := len(messagesOf[*ipc.ActivityRequest](w.children[0])); n != 1 {
		t.Fatalf("%d questions", n)
	}
	w.say(w.children[0], &ipc.Activity{ID: 1, AgesMS: []int64{900, -1}})
	w.say(w.children[1], &ipc.Activity{ID: 1, AgesMS: []int64{300, -1}})
	want := []failover.Activity{{Server: 0, Age: 300 * time.Millisecond}, {Server: 1, Never: true}}
	if diff := cmp.Diff(want, eventsOf[failover.Activity](w)); diff != "" {
		t.Error(diff)
	}
}

func TestServerThatALateWorkerMayHearCountsAsHeard(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.AskActivity{Server: 0})
	w.say(w.children[0], &ipc.Activity{ID: 1, AgesMS: []int64{20000, -1}})
	w.advance(activityLimit + time.Millisecond)
	if diff := cmp.Diff([]failover.Activity{{Server: 0}}, eventsOf[failover.Activity](w)); diff != "" {
		t.Error(diff)
	}
}

func TestDeadWorkerHearsNothing(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.AskActivity{Server: 0})
	w.say(w.children[0], &ipc.Activity{ID: 1, AgesMS: []int64{20000, -1}})
	w.die(w.children[1])
	if diff := cmp.Diff([]failover.Activity{{Server: 0, Age: 20 * time.Second}}, eventsOf[failover.Activity](w)); diff != "" {
		t.Error(diff)
	}
}

func TestMachineGetsItsTickAtTheDeadline(t *testing.T) {
	w := newWorld(t, 0)
	w.machine.due, w.machine.wants = w.now+5*time.Second, true
	w.machine.react = func(ev failover.Event) []failover.Action {
		if _, ok := ev.(failover.Tick); ok {
			w.machine.wants = false
		}
		return nil
	}
	w.s.feed(failover.RunnerUp{})
	w.advance(4 * time.Second)
	if n := len(eventsOf[failover.Tick](w)); n != 0 {
		t.Fatal("too early")
	}
	w.advance(time.Hour)
	if n := len(eventsOf[failover.Tick](w)); n != 1 {
		t.Errorf("%d ticks", n)
	}
}

func TestClosedSnapshotReachesTheLedgerBeforeTheWorkers(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.s.publish(failover.Snapshot{Epoch: 1, Primary: -1, Servers: make([]failover.ServerView, 2)})
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u")})
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[0])); n != 0 {
		t.Fatal("granted while closed")
	}
	w.s.publish(openAt(1, 2))
	sent := w.children[0].sent
	grant, ok := sent[len(sent)-1].(*ipc.LeaseGrant)
	if !ok || grant.Epoch != 2 || grant.Server != 1 {
		t.Fatalf("last message %+v", sent[len(sent)-1])
	}
	if state, ok := sent[len(sent)-2].(*ipc.ServerState); !ok || !state.Open {
		t.Errorf("before the grant came %+v", sent[len(sent)-2])
	}
}

func TestProbeUsesTheLastGoodAddress(t *testing.T) {
	w := newWorld(t, 0)
	w.act(failover.Probe{Server: 1, ID: 1})
	w.settle()
	done := eventsOf[failover.ProbeDone](w)
	if len(done) != 1 || done[0].Outcome != failover.SawNoAddress {
		t.Fatalf("%+v", done)
	}
	w.lookups = map[string][]string{"name.test": {"192.0.2.1"}}
	w.act(failover.Probe{Server: 1, ID: 2})
	w.settle()
	w.lookups = nil
	w.advance(resolveStale + time.Second)
	w.act(failover.Probe{Server: 1, ID: 3})
	w.settle()
	if len(w.probed) != 2 || w.probed[1].Address != "192.0.2.1:5002" {
		t.Errorf("%+v", w.probed)
	}
}

func TestProbeLogsInInTheDocumentedOrder(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Superuser = &config.Credential{Name: "s", Password: "sp"}
		c.Users = []config.Credential{{Name: "h", Password: "hp"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
	})
	w.up()
	w.say(w.children[0], &ipc.LoginSeen{Lease: w.lease(w.children[0], ipc.PoolKey{User: "x", Database: "y"}), NoPassword: true})
	var got []string
	for _, l := range w.s.probeLogins(0) {
		got = append(got, l.User+"@"+l.Database+":"+l.Password.Reveal())
	}
	want := []string{"s@postgres:sp", "h@postgres:hp", "b@postgres:", "c@postgres:", "x@y:"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Several logins are in one message, in which a token of 64 KiB would leave no room.
func TestProbeLeavesOutPasswordsThatDoNotFit(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		long := config.Secret(strings.Repeat("x", config.MaxOwnPassword+1))
		c.Users = []config.Credential{{Name: "a", Password: long}, {Name: "b", Password: long[1:]}}
	})
	w.up()
	if got := w.s.probeLogins(0); len(got) != 1 || got[0].User != "b" {
		t.Errorf("%d logins", len(got))
	}
}

func TestProbeLogsInAsNobodyButTheUserThatIsNamed(t *testing.T) {
	for name, users := range map[string][]config.Credential{
		"hp": {{Name: "a", Password: "ap"}, {Name: "h", Password: "hp"}},
		"":   {{Name: "a", Password: "ap"}},
	} {
		w := newWorld(t, 1, func(c *config.Config) {
			c.HealthCheckUser, c.Users, c.Superuser = "h", users, &config.Credential{Name: "s", Password: "sp"}
		})
		w.up()
		w.say(w.children[0], &ipc.LoginSeen{Lease: w.lease(w.children[0], ipc.PoolKey{User: "x", Database: "y"}), NoPassword: true})
		secret := ipc.Secret(name)
		want := []ipc.Login{{User: "h", Database: "h", Password: secret}, {User: "h", Database: "postgres", Password: secret}}
		if diff := cmp.Diff(want, w.s.probeLogins(0)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestTheHintNamesTheUserOfTheProbesAndTheFile(t *testing.T) {
	c := &config.Config{HealthCheckUser: "h", Paths: config.Paths{Users: "/etc/x/users"}}
	if got := machineConfig(c); got.ProbeUser != "h" || !strings.HasPrefix(got.CredentialHint, "pgagroal-admin -f /etc/x/users user add -U h") {
		t.Errorf("%q, %q", got.ProbeUser, got.CredentialHint)
	}
	c.Users = []config.Credential{{Name: "h"}}
	if got := machineConfig(c); !strings.HasPrefix(got.CredentialHint, "pgagroal-admin -f /etc/x/users user edit -U h") {
		t.Errorf("%q", got.CredentialHint)
	}
}

func TestProbeOfAServerThatNoClientVisitedLogsInAsAClientOfAnother(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	if n := len(w.s.probeLogins(1)); n != 0 {
		t.Fatalf("%d logins before any client", n)
	}
	w.say(w.children[0], &ipc.LoginSeen{Lease: w.lease(w.children[0], ipc.PoolKey{User: "x", Database: "y"}), NoPassword: true})
	if diff := cmp.Diff([]ipc.Login{{User: "x", Database: "y"}}, w.s.probeLogins(1)); diff != "" {
		t.Error(diff)
	}
	w.s.publish(openAt(1, 2))
	w.say(w.children[0], &ipc.LoginSeen{Lease: w.lease(w.children[0], ipc.PoolKey{User: "own", Database: "y"}), NoPassword: true})
	if diff := cmp.Diff([]ipc.Login{{User: "own", Database: "y"}}, w.s.probeLogins(1)); diff != "" {
		t.Error(diff)
	}
}

func TestSenderIsFoundByNameOrAddress(t *testing.T) {
	w := newWorld(t, 0)
	w.s.found(1, []string{"192.0.2.1"})
	for host, want := range map[string]string{"127.0.0.1": "", "NAME.test": "two", "192.0.2.1": "two", "other": ""} {
		if got := w.s.serverAt(host, "5002"); got != want {
			t.Errorf("%s is %q", host, got)
		}
	}
}

func TestAddressStaysWhileTheNameStillHasIt(t *testing.T) {
	w := newWorld(t, 0)
	w.s.found(1, []string{"192.0.2.1"})
	w.s.found(1, []string{"192.0.2.9", "192.0.2.1"})
	if a := w.s.addressesOf(1)[0]; a.address != "192.0.2.1:5002" {
		t.Error(a)
	}
	w.s.found(1, []string{"192.0.2.9"})
	if a := w.s.addressesOf(1)[0]; a.address != "192.0.2.9:5002" {
		t.Error(a)
	}
}

func TestTimeOfZeroIsNoTimeAtAll(t *testing.T) {
	c := config.New()
	c.FailoverStartTimeout, c.FailoverProbeInterval, c.FailoverRestartGrace = 0, 0, 0
	c.FailoverStartupGrace, c.FailoverSilenceTime, c.FailoverVerifyTimeout = 0, 0, 0
	c.Servers = []config.Server{{Name: "one", Host: "127.0.0.1", Port: 5001, Primary: true}}
	f := machineConfig(c)
	for _, d := range []time.Duration{
		f.StartTimeout, f.ProbeInterval, f.RestartGrace, f.StartupGrace, f.SilenceTime, f.VerifyTimeout,
	} {
		if d <= 0 || d > time.Millisecond {
			t.Errorf("a time of 0 is %v for the machine", d)
		}
	}
	m := failover.New(f, nil, 0)
	m.Step(0, failover.Started{})
	m.Step(time.Millisecond, failover.Tick{})
	if p := m.Status(time.Millisecond).Phase; p == failover.PhaseStarting.String() {
		t.Error("the start waits although failover_start_timeout is 0")
	}
}

// When a primary dies with a thousand sessions, the machine gets one hint.
func TestHintsOfATurnAreFedOnce(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	for range 500 {
		for _, f := range w.children {
			f.message(&ipc.Hint{Server: 0, Epoch: 1, Kind: ipc.HintReset})
			f.message(&ipc.Hint{Server: 0, Epoch: 1, Kind: ipc.HintSQLState, SQLState: "57P01"})
		}
		w.settle()
	}
	w.advance(0)
	want := []failover.Hinted{{Server: 0, Epoch: 1, Kind: "reset"}, {Server: 0, Epoch: 1, Kind: "error", Code: "57P01"}}
	if diff := cmp.Diff(want, eventsOf[failover.Hinted](w)); diff != "" {
		t.Errorf("fed (-want +got):\n%s", diff)
	}
	w.say(w.children[0], &ipc.Hint{Server: 0, Epoch: 1, Kind: ipc.HintReset})
	w.advance(0)
	if n := len(eventsOf[failover.Hinted](w)); n != 3 {
		t.Errorf("%d hints; what comes later is another", n)
	}
}

// A kind that the supervisor doesn't know would kill the worker that reports it.
func TestEachKindOfHintReachesTheMachine(t *testing.T) {
	for kind, want := range map[ipc.HintKind]string{
		ipc.HintRefused: "refused", ipc.HintReset: "reset", ipc.HintEOF: "eof", ipc.HintTimeout: "timeout",
		ipc.HintSQLState: "error", ipc.HintUnreachable: "timeout", ipc.HintDied: failover.HintDied,
	} {
		w := newWorld(t, 2)
		w.up()
		w.say(w.children[0], &ipc.Hint{Server: 0, Epoch: 1, Kind: kind})
		w.advance(0)
		if got := eventsOf[failover.Hinted](w); len(got) != 1 || got[0].Kind != want {
			t.Errorf("%d: the machine hears %+v, not %q", kind, got, want)
		}
	}
}
