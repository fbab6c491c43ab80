package failover

import (
	"fmt"
	"time"
)

// Times that are part of the rules and not worth a configuration key.
const (
	// silenceTime is the default of failover_silence_time: what a test of packet loss requires at least, with some
	// margin.
	silenceTime    = 15 * time.Second
	announceWindow = 60 * time.Second       // an announced shutdown is remembered this long
	sampleInterval = 200 * time.Millisecond // between two LSN samples of a candidate
	sampleTime     = 2 * time.Second        // limit for all samples
	fenceRepeat    = time.Second            // pause before an unacknowledged Fence is sent again
	saveRetry      = time.Second            // pause before a failed Save is repeated
	lsnSaveEvery   = 60 * time.Second       // how stale the durable LSN may get while probes see newer ones
	answerSlack    = 5 * time.Second        // a probe without an answer this long after its time-out is forgotten; resolving a name may take long
	commandSlack   = time.Second            // a command waits for the time of two probes and this
	stopSlack      = time.Second            // if no probe ends for this long after a time-out, this process was stopped
	runSlack       = 60 * time.Second       // a run without an answer this long after its time-out is lost
	maxEvaluations = 32                     // rounds of one Step; more would be an endless loop
)

// Machine is the failover state machine; all fields belong to the one goroutine that calls Step.
type Machine struct {
	*counter
	stage
	door
	cfg     Config
	now     time.Duration
	event   string // kind of the event being handled, for log lines
	started struct {
		wall time.Time
		at   time.Duration
	}
	servers []*server       // by slot, nil where there is none
	twins   map[[2]int]bool // sections that are one server

	epoch    uint64
	known    known
	fence    fence
	runs     runs
	verdicts []Verdict // of the latest choice of a candidate
	notify   notify
	runner   runner
	stopping bool
	paused   bool // by command
	clients  ClientsPaused
	plan     *plan // a planned switchover, until its answer

	commands []command
	alarms   []alarm
	once     map[string]bool // what was logged once
	goesOn   bool            // it is made of another machine's heritage, see Continue
	probeID  uint64          // of the latest one

	saving    saving
	published Snapshot // its Gen is 0 before the first

	first []Action // logs, probes: before the save
	after []Action // actions that must not happen before the record is durable
}

// New makes a machine; saved is nil when there is no usable record, now is the monotonic time since process start.
func New(cfg Config, saved *Record, now time.Duration) *Machine {
	m := &Machine{
		counter: &counter{}, stage: stage{since: now}, door: door{heldSince: now}, cfg: withDefaults(cfg), now: now,
		once: map[string]bool{}, twins: map[[2]int]bool{},
	}
	m.known = known{counter: m.counter, index: -1}
	m.fence = fence{counter: m.counter}
	m.runs = runs{counter: m.counter, pending: -1}
	m.notify = notify{counter: m.counter, old: -1}
	m.runner = runner{counter: m.counter, why: "not connected yet"}
	m.takeServers()
	for _, s := range m.each() {
		if s.cfg.PrimaryHint {
			s.state = NotInitPrimary
		}
	}
	m.restore(saved)
	return m
}

func withDefaults(c Config) Config {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.HealthCheckPeriod, 30 * time.Second},
		{&c.StartTimeout, 5 * time.Second},
		{&c.ProbeInterval, 300 * time.Millisecond},
		{&c.ProbeTimeout, 2 * time.Second},
		{&c.RestartGrace, 10 * time.Second},
		{&c.StartupGrace, 60 * time.Second},
		{&c.VetoMax, 60 * time.Second},
		{&c.SilenceTime, silenceTime},
		{&c.Window, time.Hour},
		{&c.ScriptTimeout, 120 * time.Second},
		{&c.VerifyTimeout, 10 * time.Second},
		{&c.NotifyTimeout, 600 * time.Second},
		{&c.Quarantine, 60 * time.Second},
		{&c.RunnerWait, 10 * time.Second},
		{&c.WatchInterval, 5 * time.Second},
		{&c.HeldInterval, time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.ProbeCount == 0 {
		c.ProbeCount = 3
	}
	return c
}

// Step handles one event and returns what is to be done, in order. Time never goes back: if now is earlier than in a
// previous Step, the previous time counts.
func (m *Machine) Step(now time.Duration, ev Event) []Action {
	before := m.now
	m.now = max(m.now, now)
	kind := kindOf(ev)
	m.event = kind.String()
	m.afterStop(m.now - before)
	m.dispatch(kind, ev)
	m.evaluate()
	m.startProbes()
	return m.flush()
}

// afterStop begins the choice of a candidate anew if the process was stopped during it. While choosing, the machine gets
// the result of a probe at least once in ProbeTimeout. A longer silence means that the process was stopped and that what
// the machine has seen is old.
func (m *Machine) afterStop(silence time.Duration) {
	if m.phase != PhaseChoosing || silence <= m.cfg.ProbeTimeout+stopSlack {
		return
	}
	m.log(Warn, "this process was stopped while a candidate was chosen; every server is looked at again", Attr{"for", short(silence)})
	m.enter(PhaseChoosing, m.why)
}

// evaluate applies conditions and deadlines until nothing changes any more.
func (m *Machine) evaluate() {
	if m.phase == PhaseNew {
		return
	}
	for range maxEvaluations {
		before := m.changes
		m.forgetLostProbes()
		m.evaluatePhase()
		m.evaluateRun()
		m.evaluatePlan()
		m.evaluateCommands()
		m.evaluateNotify()
		m.evaluateAlarms()
		if m.changes == before {
			return
		}
	}
	m.log(Error, "the state machine does not come to rest", Attr{"phase", m.phase.String()})
}

func (m *Machine) evaluatePhase() {
	switch m.phase {
	case PhaseNew:
	case PhaseStarting:
		m.evalStarting()
	case PhaseOpen:
		m.evalOpen()
	case PhaseSuspect:
		m.evalSuspect()
	case PhaseFencing:
		m.evalFencing()
	case PhaseChoosing:
		m.evalChoosing()
	case PhaseRunning: // waits for RunEnded or RunLost
	case PhaseSwitching:
		m.evalSwitching()
	case PhaseVerifying:
		m.evalVerifying()
	case PhaseHeld:
		m.evalHeld()
	}
}

// assert panics at a contradiction, which is a bug. At this point the bug has done no harm yet, and its cause can still be
// found.
func (m *Machine) assert(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("failover: %s %s: ", m.phase, m.event) + fmt.Sprintf(format, args...))
	}
}

// enter is the only writer of the phase.
func (m *Machine) enter(p Phase, why string) {
	m.log(Info, "failover phase", Attr{"old", m.phase.String()}, Attr{"new", p.String()}, Attr{"event", m.event}, Attr{"why", why})
	missing := m.misses(p)
	m.assert(missing == "", "the phase %v is without %s", p, missing)
	m.begin(p, why, m.now)
	m.changed()
	if p != PhaseFencing && p != PhaseChoosing && p != PhaseRunning {
		m.fence.done()
	}
	if p == PhaseOpen {
		m.runs.uncut()
		m.setOpen(true)
	}
	if p == PhaseChoosing {
		for _, s := range m.each() {
			s.sampled, s.stable = false, false
		}
	}
}

// setOpen is the only writer of open.
func (m *Machine) setOpen(open bool) {
	if m.open == open {
		return
	}
	m.changed()
	if !open {
		m.shut(m.now)
		return
	}
	m.unlock()
	if s := m.servers[m.known.index]; m.now-s.lastEnded > m.cfg.ProbeInterval/2 {
		s.wanted = true // the decision was based on an answer that is some time old
	}
}

// become is the only writer of a server's state.
func (m *Machine) become(i int, st State, q Qualifier, why string) {
	s := m.servers[i]
	if s.state == st && s.qual == q {
		s.reason = why
		return
	}
	level := Info
	if st == Failed || q == SplitBrain || q == NotWritable {
		level = Warn
	}
	m.log(level, "server state", Attr{"server", s.cfg.Name}, Attr{"old", Display(s.state, s.qual)}, Attr{"new", Display(st, q)},
		Attr{"event", m.event}, Attr{"why", why})
	s.state, s.qual, s.reason = st, q, why
	s.spared = s.spared && st == Failed
	m.changed()
}

func (m *Machine) log(l Level, msg string, attrs ...Attr) {
	m.first = append(m.first, Log{Level: l, Msg: msg, Attrs: attrs})
}

func (m *Machine) logOnce(key string, l Level, msg string, attrs ...Attr) {
	if m.once[key] {
		return
	}
	m.once[key] = true
	m.log(l, msg, attrs...)
}

// later queues an action that must not precede the record it depends on.
func (m *Machine) later(a Action) { m.after = append(m.after, a) }

// flush returns the actions of one Step in order: logs and probes, the record, the snapshot, then the actions that
// depend on these.
func (m *Machine) flush() []Action {
	out := m.first
	if m.phase != PhaseNew {
		if a, ok := m.saveAction(); ok {
			out = append(out, a)
		}
		if a, ok := m.publishAction(); ok {
			out = append(out, a)
		}
	}
	out = append(out, m.after...)
	m.first, m.after = nil, nil
	return out
}

func (m *Machine) publishAction() (Publish, bool) {
	s := Snapshot{Gen: m.published.Gen + 1, Epoch: m.epoch, Open: m.open, Primary: m.known.index, Servers: make([]ServerView, 0, len(m.servers))}
	for _, v := range m.servers {
		view := ServerView{}
		if v != nil {
			view = ServerView{v.cfg.Name, v.state, v.qual}
		}
		s.Servers = append(s.Servers, view)
	}
	if m.published.Gen > 0 && sameSnapshot(s, m.published) {
		return Publish{}, false
	}
	m.published = s
	s.Servers = append([]ServerView(nil), s.Servers...)
	return Publish{s}, true
}

func sameSnapshot(a, b Snapshot) bool {
	if a.Epoch != b.Epoch || a.Open != b.Open || a.Primary != b.Primary || len(a.Servers) != len(b.Servers) {
		return false
	}
	for i := range a.Servers {
		if a.Servers[i] != b.Servers[i] {
			return false
		}
	}
	return true
}

// Deadline returns when the next Tick is wanted; false means never.
func (m *Machine) Deadline() (time.Duration, bool) {
	if m.phase == PhaseNew {
		return 0, false
	}
	var d deadline
	for i := range m.each() {
		if at, ok := m.probeDue(i); ok {
			d.at(at)
		}
	}
	m.phaseDeadline(&d)
	if m.runs.current != nil {
		d.at(m.runs.current.at + m.runs.current.timeout + runSlack)
	}
	m.notifyDeadline(&d)
	if m.saving.again > 0 {
		d.at(m.saving.again)
	}
	if m.plan != nil && m.phase == PhaseHeld && m.now < m.since+m.commandTime() {
		d.at(m.since + m.commandTime())
	}
	if !m.commandsWait() {
		for _, c := range m.commands {
			d.at(c.at + m.commandTime())
		}
	}
	return d.min, d.set
}

func (m *Machine) phaseDeadline(d *deadline) {
	switch m.phase {
	case PhaseStarting:
		d.at(m.since + m.cfg.StartTimeout)
	case PhaseFencing:
		d.at(m.fence.sent + fenceRepeat)
	case PhaseChoosing:
		if at := m.since + sampleTime; at > m.now {
			d.at(at)
		}
		if at := m.since + m.cfg.RunnerWait; at > m.now {
			d.at(at)
		}
	case PhaseVerifying:
		if at := m.since + m.cfg.VerifyTimeout; at > m.now {
			d.at(at)
		}
	case PhaseSwitching:
		m.planDeadline(d)
	case PhaseNew, PhaseOpen, PhaseSuspect, PhaseRunning, PhaseHeld: // the end of a probe evaluates them again
	}
}

type deadline struct {
	min time.Duration
	set bool
}

func (d *deadline) at(t time.Duration) {
	if !d.set || t < d.min {
		d.min, d.set = t, true
	}
}
