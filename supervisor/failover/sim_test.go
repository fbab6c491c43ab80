package failover

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simSchedules = flag.Int("schedules", 0, "how many random schedules TestSimulation plays; 0: a million, with -short or -race as many as fit into 5 s")
	simSeed      = flag.Uint64("seed", 1, "first seed of TestSimulation; a failure prints its own")
	simTrace     = flag.Bool("play", false, "print every action and event of the schedules played")
)

// TestSimulation plays random schedules of faults, lost and late events, crashes and commands against a model of the
// servers and checks after every action what must never happen, and after the faults that service resumes or a hold
// says why it doesn't.
func TestSimulation(t *testing.T) {
	n, end := *simSchedules, time.Now().Add(24*time.Hour)
	if d, ok := t.Deadline(); ok {
		end = d.Add(-10 * time.Second)
	}
	enough := 1000000
	if n == 0 {
		n = enough
		if testing.Short() || raceDetector {
			enough, end = 0, time.Now().Add(5*time.Second)
		}
	}
	enough = min(enough, n)
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // nothing lives longer than its schedule
	var next atomic.Int64
	var wg sync.WaitGroup
	var counts [len(simEnds)]atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				k := next.Add(1) - 1
				if k >= int64(n) || t.Failed() || time.Now().After(end) {
					return
				}
				seed := *simSeed + uint64(k)
				s := newSim(seed)
				how, err := s.play()
				if err != nil {
					t.Errorf("%v\nplay it again: go test -run TestSimulation -schedules 1 -seed %d -play", err, seed)
					return
				}
				counts[how].Add(1)
			}
		})
	}
	wg.Wait()
	played := counts[0].Load() + counts[1].Load() + counts[2].Load()
	if played < int64(enough) && !t.Failed() {
		t.Errorf("%d of %d schedules in the time that there is: give it more with -timeout", played, enough)
	}
	if played >= 20000 && !t.Failed() {
		checkCommandsTaken(t)
		checkIdentitiesSeen(t)
	}
	for i, name := range simEnds {
		t.Logf("%s: %d", name, counts[i].Load())
		if played >= 2000 && counts[i].Load() == 0 && !t.Failed() {
			t.Errorf("no schedule ended with %q: the simulation doesn't reach what it should", name)
		}
	}
}

// TestSchedulesThatFailedOnce plays those that a longer simulation has found.
func TestSchedulesThatFailedOnce(t *testing.T) {
	for seed, what := range map[uint64]string{
		746147:  "a command whose time was up while another one's fence was out asked for Tick after Tick",
		2130907: "one refusal among time-outs ended the veto",
	} {
		if _, err := newSim(seed).play(); err != nil {
			t.Errorf("seed %d, %s: %v", seed, what, err)
		}
	}
}

var simEnds = [...]string{"open on the first primary", "open on another one", "held with a reason"}

// sim is one schedule.
type sim struct {
	r       *rand.Rand
	cfg     Config
	m       *Machine
	now     time.Duration
	queue   queue
	seq     int
	life    int
	alive   bool
	nodes   []*simNode
	saved   *Record
	saveErr error
	crashes bool // else saves may fail: both at once may lose a run, which no code can prevent
	calm    bool // the faults are over
	group   string
	active  *StartRun // process group that exists
	seen    map[string]bool
	primary map[uint64]int // primary published open, by epoch
	epoch   uint64
	opened  Snapshot // latest open one of this life
	fenced  uint64   // newest epoch whose fence was acknowledged in this life
	asked   Fence
	last    []Outcome // latest answer delivered in this life
	looks   []look
	wrote   []bool          // ever seen writable by any life
	success *[2]int         // old and new of a run that has just ended well, until the machine has published it
	began   []time.Duration // failovers since the last reset
	locked  bool
	cut     int // server whose fence script has ended well and that hasn't answered since, -1 none
	cutAt   time.Duration
	uncut   int    // what cut was before the event that is just being taken, which a crash makes undone, -1 none
	cutting int    // server whose fence script was started, without an answer, an open pool or a command since, -1 none
	gone    []bool // replaced by a successful run, no command since
	order   simOrders
	systems uint64 // system identifiers given to servers anew
	upgrade upgrades
	err     error
}

// simNode is the truth about one server.
type simNode struct {
	up       bool
	net      Outcome // 0: fine, else what a probe gets
	primary  bool
	starting time.Duration // 57P03 until then
	system   uint64
	timeline uint32
	lsn      uint64
}

func newSim(seed uint64) *sim {
	r := rand.New(rand.NewPCG(seed, 42))
	n := 2 + r.IntN(3)
	s := &sim{r: r, seen: map[string]bool{}, primary: map[uint64]int{}, crashes: r.IntN(3) > 0, cut: -1, uncut: -1, cutting: -1}
	s.cfg = Config{
		Enabled: true, NotifyConfigured: r.IntN(2) == 0, Verify: Verify(r.IntN(3)), ProbeInterval: 2 * time.Second,
		HeldInterval: 4 * time.Second, WatchInterval: 10 * time.Second, StartTimeout: 5 * time.Second, ProbeCount: 2,
		RestartGrace: 6 * time.Second, StartupGrace: 10 * time.Second, ScriptTimeout: 20 * time.Second, VerifyTimeout: 8 * time.Second,
		NotifyTimeout: 20 * time.Second, MinStandbys: r.IntN(2), MaxRuns: r.IntN(4), Window: 40 * time.Second,
		FenceScript: r.IntN(2) == 0, Follow: r.IntN(8) == 0, Veto: r.IntN(4) > 0, VetoMax: 20 * time.Second,
	}
	s.drawOrders(n)
	for i := range n {
		s.cfg.Servers = append(s.cfg.Servers, ServerConfig{Name: fmt.Sprintf("s%d", i), Host: fmt.Sprintf("h%d", i), Port: "5432", Candidate: true})
		s.nodes = append(s.nodes, &simNode{up: true, system: 7, timeline: 1, lsn: 100 + uint64(r.IntN(3)), primary: i == 0})
		s.wrote, s.gone, s.last = append(s.wrote, false), append(s.gone, false), append(s.last, 0)
	}
	return s
}

func (s *sim) note(format string, args ...any) {
	if *simTrace {
		fmt.Printf("%9.3f %s\n", s.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("at %v: %s", s.now, fmt.Sprintf(format, args...))
		s.note("FAIL %v", s.err)
	}
}

func (s *sim) chance(percent int) bool { return s.r.IntN(100) < percent }

func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.r.Int64N(int64(d))) }

// play runs 60 s of faults and 200 s of calm.
func (s *sim) play() (int, error) {
	s.boot()
	for at := s.upTo(10 * time.Second); at < 60*time.Second; at += s.upTo(12 * time.Second) {
		s.at(at, nil, s.fault)
	}
	s.at(60*time.Second, nil, s.heal)
	s.run(260 * time.Second)
	if s.err != nil {
		return 0, s.err
	}
	return s.judge()
}

func (s *sim) at(at time.Duration, ev Event, do func()) {
	s.seq++
	heap.Push(&s.queue, item{at, s.seq, s.life, ev, do})
}

func (s *sim) run(until time.Duration) {
	for steps := 0; s.err == nil; steps++ {
		if steps > 100000 {
			s.fail("100000 steps")
			return
		}
		next, tick := until, false
		if s.alive {
			if d, ok := s.m.Deadline(); ok && d <= next {
				next, tick = max(d, s.now), true
			}
		}
		if len(s.queue) > 0 && s.queue[0].at <= next {
			it := heap.Pop(&s.queue).(item)
			s.now = max(s.now, it.at)
			if it.do != nil {
				it.do()
			}
			if it.ev != nil && it.life == s.life && s.alive {
				s.deliver(it.ev)
			}
			continue
		}
		s.now = next
		if !tick {
			return
		}
		s.step(Tick{})
	}
}

// send delivers an event after a while: lost, late, twice or out of order while there are faults.
func (s *sim) send(after time.Duration, ev Event) {
	if !s.calm {
		if s.chance(3) {
			return
		}
		if s.chance(3) {
			s.at(s.now+after+s.upTo(2*time.Second), ev, nil)
		}
		if s.chance(5) {
			after += s.upTo(6 * time.Second)
		}
	}
	s.at(s.now+after, ev, nil)
}

func (s *sim) deliver(ev Event) {
	if p, ok := ev.(ProbeDone); ok && s.m.servers[p.Server].inflight == p.ID {
		s.looked(p)
		s.last[p.Server] = p.Outcome
		s.looks[p.Server].take(p, s.now)
		s.answered(p)
		if p.Outcome == SawPrimary {
			s.wrote[p.Server] = true
		}
		if was := s.m.servers[p.Server].system; was != 0 && p.Obs.SystemID != 0 && p.Obs.SystemID != was {
			s.gone[p.Server] = false // nothing of the server that was replaced is left
			s.countIdentity(p.Server)
		}
	}
	if q, ok := ev.(Quiesced); ok && q.Busy == 0 {
		s.order.idle = true
	}
	if f, ok := ev.(Fenced); ok && f.Seq == s.asked.Seq && f.Epoch == s.asked.Epoch {
		s.fenced = max(s.fenced, f.Epoch)
	}
	if e, ok := ev.(RunEnded); ok && e.Hook == HookFence && s.m.runs.current != nil && s.m.runs.current.id == e.RunID && e.Exit == 0 && e.Signal == 0 && !e.TimedOut {
		s.cut, s.cutAt = s.m.runs.current.old, s.now
	}
	s.step(ev)
	if s.alive {
		s.uncut = -1
	}
}

// answered notes that a server that was cut off isn't, as its own answer shows.
func (s *sim) answered(p ProbeDone) {
	switch p.Outcome {
	case SawPrimary, SawStandby, SawAlive, SawStarting:
	default:
		return
	}
	if p.Server == s.cutting {
		s.cutting = -1
	}
	if p.Server == s.cut && p.Started >= s.cutAt {
		s.cut, s.uncut = -1, s.cut
	}
}

func (s *sim) step(ev Event) {
	if _, tick := ev.(Tick); !tick {
		s.note("  event %T%+v", ev, ev)
	}
	s.countCommand(ev)
	was := s.m.phase
	for _, a := range s.m.Step(s.now, ev) {
		if s.crashes && !s.calm && s.r.IntN(400) == 0 {
			s.crash()
			return
		}
		s.execute(a)
		if s.err != nil {
			return
		}
	}
	if lack := s.m.lacks(s.m.hold); lack != "" {
		s.fail("the hold %v is without %s", s.m.hold, lack)
	}
	if d, ok := s.m.Deadline(); ok && d <= s.now {
		if _, tick := ev.(Tick); tick {
			s.fail("a Tick leaves the deadline at %v, phase %v", d, s.m.phase)
		}
	}
	s.mayUpgrade()
	if s.m.phase != was && !s.calm && s.chance(3) { // some phases are over in no time
		s.at(s.now+s.upTo(10*time.Millisecond), nil, s.anyCommand)
	}
}

// boot starts a supervisor from the saved record.
func (s *sim) boot() {
	s.life++
	s.success = nil
	if s.uncut >= 0 {
		s.cut, s.uncut = s.uncut, -1
	}
	s.alive, s.opened, s.fenced, s.asked = true, Snapshot{}, 0, Fence{}
	s.order.reboot()
	for i := range s.last {
		s.last[i] = 0
	}
	s.looks = make([]look, len(s.nodes))
	s.note("boot %+v", s.saved)
	s.m = New(s.cfg, s.saved, s.now)
	if !s.calm && s.chance(5) {
		s.anyCommand()
	}
	s.step(Started{Wall: time.Unix(1000, 0).Add(s.now)})
	if !s.alive {
		return
	}
	s.at(s.now+s.upTo(time.Second), RunnerUp{}, nil)
	if s.active == nil {
		s.at(s.now+s.upTo(time.Second), RunsAllowed{Allowed: true}, nil)
		s.groupEmpty()
	}
}

func (s *sim) crash() {
	s.note("CRASH")
	s.alive = false
	s.at(s.now+s.upTo(5*time.Second), nil, s.boot)
}

// groupEmpty tells the living supervisor that nothing is left of the last run.
func (s *sim) groupEmpty() {
	if s.group != "" {
		s.at(s.now+s.upTo(3*time.Second), RunGroupEmpty{RunID: s.group}, nil)
	}
}

func (s *sim) execute(a Action) {
	switch a := a.(type) {
	case Probe:
		s.probe(a)
	case AskActivity:
		s.send(time.Millisecond, Activity{Server: a.Server, Never: s.nodes[a.Server].net != SawSilent, Age: time.Millisecond})
	case Save:
		if *simTrace {
			s.note("save %s", recordText(a.Record))
		}
		if s.success != nil && a.Record.Primary == s.cfg.Servers[s.success[1]].Name {
			s.gone[s.success[0]], s.wrote[s.success[1]], s.success = !s.order.switched, true, nil // exit 0 recorded it as the primary
		}
		if s.saveErr == nil {
			s.saved = s.written(a.Record)
			if !a.Record.Cut {
				s.uncut = -1
			}
			for i, sr := range a.Record.Servers {
				if sr.State == Replica.String() {
					s.checkReturn(i)
				}
			}
		}
		s.at(s.now, SaveDone{a.Seq, s.saveErr}, nil)
	case Publish:
		s.publish(a.Snapshot)
		s.checkOrders(a.Snapshot)
	case Fence:
		s.checkPausedFence(a)
		s.note("fence %d", a.Epoch)
		s.checkVeto()
		s.asked = a
		s.send(s.upTo(500*time.Millisecond), Fenced(a))
	case Quiesce:
		s.quiesced(a)
	case StartRun:
		s.startRun(a)
	case StopRun:
		s.note("stop run")
		if s.active != nil && s.active.RunID == a.RunID {
			s.endRun(RunEnded{RunID: a.RunID, Hook: HookNotify, Signal: 15})
		}
	case Log:
		if *simTrace {
			s.note("%s", logText(a))
		}
		if strings.Contains(a.Msg, "come to rest") {
			s.fail("the machine loops in phase %v", s.m.phase)
		}
	case History:
		s.locked = s.locked || a.Entry.Kind == "locked"
	case Reply:
		s.replied(a)
	}
}

// written is a record as it is read back; some of them take the way through the file's format, which is slow.
func (s *sim) written(r Record) *Record {
	if s.seq%8 > 0 {
		return &r
	}
	b, err := EncodeRecord(r)
	if err != nil {
		s.fail("%v", err)
	}
	back, err := DecodeRecord(b)
	if err != nil {
		s.fail("the record can't be read back: %v", err)
	}
	return back
}

func (s *sim) publish(p Snapshot) {
	if *simTrace {
		s.note("publish %s", snapshotText(p))
	}
	if p.Epoch < s.epoch {
		s.fail("epoch %d after %d", p.Epoch, s.epoch)
	}
	s.epoch = p.Epoch
	if !p.Open {
		return
	}
	s.cut, s.cutting = -1, -1
	if was, ok := s.primary[p.Epoch]; ok && was != p.Primary {
		s.fail("two primaries, %d and %d, in epoch %d", was, p.Primary, p.Epoch)
	}
	s.primary[p.Epoch] = p.Primary
	if st := p.Servers[p.Primary].State; st != Primary && st != NotInitPrimary {
		s.fail("open on a server in state %v", st)
	}
	if s.gone[p.Primary] {
		s.fail("%s is used although a run has replaced it", p.Servers[p.Primary].Name)
	}
	if s.opened.Open && s.opened.Primary != p.Primary && s.fenced < s.opened.Epoch {
		s.fail("open on %d in epoch %d, while epoch %d was never fenced", p.Primary, p.Epoch, s.opened.Epoch)
	}
	s.opened = p
}

func (s *sim) startRun(a StartRun) {
	s.note("run %s %v %s", a.Hook, a.Args, a.RunID)
	s.checkOrderedRun(a)
	old, next := s.byName(a.Env["PGAGROAL_OLD_NAME"]), s.byName(a.Env["PGAGROAL_NEW_NAME"])
	switch {
	case s.seen[a.RunID]:
		s.fail("run id %s twice", a.RunID)
	case s.active != nil:
		s.fail("two runs at once")
	}
	want := []string{s.cfg.Servers[old].Host, "5432", s.cfg.Servers[next].Host, "5432"}
	if a.Hook == HookFence {
		want = want[:2]
	}
	if !slices.Equal(a.Args[:len(want)], want) || (a.Hook != HookNotify && len(a.Args) != len(want)) {
		s.fail("arguments %v", a.Args)
	}
	if s.cfg.Follow {
		s.fail("run %s although somebody else promotes", a.Hook)
	}
	if a.Hook != HookNotify {
		s.checkPromotion(a, old, next)
	}
	if a.Hook == HookFence {
		if s.cutting == old {
			s.fail("%s is cut off a second time without a reason", s.cfg.Servers[old].Name)
		}
		s.cutting, s.cut = old, -1
	}
	if (a.Hook == HookFailover) == !s.cfg.FenceScript && a.Hook != HookNotify && !s.order.switched {
		s.checkWindow()
	}
	if a.Hook == HookFailover && s.cfg.FenceScript && s.cut != old && !s.order.switched {
		s.fail("a promotion although the old primary was not cut off")
	}
	s.seen[a.RunID], s.active, s.group = true, &a, a.RunID
	s.script(a, old, next)
}

func (s *sim) checkFailover(old, next int) {
	switch {
	case s.opened.Open && s.fenced < s.opened.Epoch:
		s.fail("run before epoch %d was fenced", s.opened.Epoch)
	case !s.wrote[old]:
		s.fail("run for a primary that was never seen writable")
	case (s.last[old] == SawPrimary || s.last[old] == SawStandby || s.last[old] == SawAlive) && !s.order.overrules(s.last[old]):
		s.fail("run although the old primary answered: %v", s.last[old])
	case s.last[next] != SawStandby && !s.m.foreign(s.m.servers[next]):
		s.fail("run for a candidate last seen as %v", s.last[next])
	case s.gone[next]:
		s.fail("run promotes a server that was replaced")
	}
}

// checkWindow: failover_max holds across crashes, and once it is reached nothing but a reset ends that.
func (s *sim) checkWindow() {
	if s.cfg.MaxRuns == 0 {
		return
	}
	s.began = slices.DeleteFunc(s.began, func(at time.Duration) bool { return at <= s.now-s.cfg.Window })
	s.began = append(s.began, s.now)
	switch {
	case len(s.began) > s.cfg.MaxRuns:
		s.fail("%d failovers within %v", len(s.began), s.cfg.Window)
	case s.locked:
		s.fail("a failover although they were locked")
	}
}

func (s *sim) byName(name string) int {
	return slices.IndexFunc(s.cfg.Servers, func(c ServerConfig) bool { return c.Name == name })
}

// judge says how a schedule ended: open on a server that is writable, or held with reason and command.
func (s *sim) judge() (int, error) {
	if !s.alive {
		return 0, fmt.Errorf("the supervisor is down at the end")
	}
	s.m.Step(s.now, Tick{})
	st := s.m.Status(s.now)
	if st.Open {
		n := s.nodes[st.Primary]
		if !n.primary {
			return 0, fmt.Errorf("open on %d, which is a standby, phase %s", st.Primary, st.Phase)
		}
		if s.active == nil && st.Busy() {
			return 0, fmt.Errorf("a run that is long over is awaited: %+v", st.Run)
		}
		if st.Primary == 0 {
			return 0, nil
		}
		return 1, nil
	}
	if st.Phase != PhaseHeld.String() && st.Phase != PhaseVerifying.String() {
		return 0, fmt.Errorf("neither open nor held after 200 s of calm: %s", st.Line())
	}
	if st.Reason == "" || len(st.Alarms) == 0 || (st.Phase == PhaseHeld.String() && st.Command == "") {
		return 0, fmt.Errorf("held without reason, alarm or command: %+v", st)
	}
	if p := s.m.known.index; p >= 0 && s.onlyWritable(p) && s.m.runs.blocker == "" && s.m.runs.last == nil {
		return 0, fmt.Errorf("held although the recorded primary is the only writable server: %s", st.Line())
	}
	return 2, nil
}

func (s *sim) onlyWritable(p int) bool {
	for i, n := range s.nodes {
		if n.primary != (i == p) {
			return false
		}
	}
	return s.nodes[p].timeline == s.m.known.timeline && s.nodes[p].system == s.m.known.system
}
