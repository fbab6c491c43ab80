package failover

import (
	"fmt"
	"time"
)

// server is what the machine knows of one configured server.
type server struct {
	cfg       ServerConfig
	state     State // written by become only
	qual      Qualifier
	reason    string
	excluded  bool // an old primary that was replaced: only a command, failback = standby or failover_mode = follow lets it be used again
	relabel   bool // switch-to has replaced it while it was healthy: if it is writable it stays Not init
	restored  bool // its entry in the record was valid
	spared    bool // the candidate of a failed run after which rule 8 opened the old primary again: a Replica once it is seen in recovery
	recheck   bool // the primary has changed, and it hasn't yet shown that it follows the new one
	back      bool // excluded, and every probe since backSince has seen it follow the primary
	backSince time.Duration

	system   uint64
	timeline uint32 // highest timeline seen

	inflight uint64 // id of the probe in progress, 0 for none
	asked    time.Duration
	wanted   bool // one probe is wanted soon
	// noAddress: at the last probe its name had never resolved.
	noAddress bool
	// unseen: the last probe failed for a reason that says nothing about the server.
	unseen bool

	last        Outcome // of the latest probe, 0 before the first
	code        string
	words       string      // what is wrong, with the code "tls" or "nologin"
	loginCode   string      // with which the latest probe that couldn't log in was refused
	obs         Observation // of the latest logged-in probe
	lastStarted time.Duration
	lastEnded   time.Duration

	failures
	activity
	stream
	samples
}

// failures are what confirmation counts.
type failures struct {
	met        bool // it has answered a probe since the start, or a client's login
	deadRow    int  // dead results in a row
	refusedRow int  // refused or reset in a row
	firstDead  time.Duration
	answered   time.Duration // start of the latest probe whose answer showed that the server works

	starting      bool // answers 57P03 since startingSince
	startingSince time.Duration
	announced     bool // 57P01 or 57P03 was seen at announcedAt
	announcedAt   time.Duration
}

// activity is what workers have said about the last byte that they received from a server.
type activity struct {
	byteAt        time.Duration // when a worker last received a byte from it, if known
	byteKnown     bool
	activityAt    time.Duration // when the workers last answered
	activityKnown bool          // they have answered once
}

// samples are LSNs that are compared during the choice.
type samples struct {
	sampled   bool
	stable    bool
	sampleLSN uint64
	sampleAt  time.Duration
}

func (s *server) fresh(since time.Duration) bool { return s.last != 0 && s.lastStarted >= since }

func (s *server) lsn() uint64 {
	if s.last == SawPrimary {
		return s.obs.WriteLSN
	}
	return max(s.obs.ReceiveLSN, s.obs.ReplayLSN)
}

func (s *server) silent() bool {
	return s.last == SawTimeout || s.last == SawSilent || s.last == SawUnreachable
}

// alive reports whether its latest probe was answered by a server that takes logins, or refuses ours.
func (s *server) alive() bool {
	return s.last == SawPrimary || s.last == SawStandby || s.last == SawAlive
}

// seen describes the latest probe in words.
func (s *server) seen() string {
	if s.code != "" {
		return s.last.String() + " (" + s.code + ")"
	}
	return s.last.String()
}

func (m *Machine) foreign(s *server) bool {
	return s.system != 0 && m.known.system != 0 && s.system != m.known.system
}

func (m *Machine) valid(i int) bool { return i >= 0 && i < len(m.servers) && m.servers[i] != nil }

func (m *Machine) indexOf(name string) int {
	for i, s := range m.each() {
		if s.cfg.Name == name {
			return i
		}
	}
	return -1
}

func (m *Machine) nameOf(i int) string {
	if !m.valid(i) {
		return ""
	}
	return m.servers[i].cfg.Name
}

// onProbeDone records what a probe saw; the phase draws its conclusions afterwards.
func (m *Machine) onProbeDone(ev ProbeDone) {
	if !m.valid(ev.Server) || m.servers[ev.Server].inflight != ev.ID || ev.ID == 0 {
		m.log(Debug, "probe answer ignored", Attr{"why", "no probe with this id is in progress"})
		return
	}
	s := m.servers[ev.Server]
	s.inflight, s.lastEnded = 0, m.now
	if ev.Outcome == SawNoAddress && ev.Code != "" {
		s.unseen = true
		m.raise("probe "+s.cfg.Name, fmt.Sprintf("%s could not be probed: %s", s.cfg.Name, ev.Code))
		return // nothing was seen of it, and nothing is wrong with its name
	}
	if s.unseen {
		s.unseen = false
		m.clear("probe " + s.cfg.Name)
	}
	if ev.Outcome == SawNoAddress {
		s.noAddress = true
		m.raise("address", fmt.Sprintf("the address of %s can't be resolved", s.cfg.Name))
		return // proves nothing, neither for nor against the server
	}
	if s.noAddress {
		s.noAddress = false
		m.clear("address")
	}
	s.last, s.code, s.words, s.lastStarted = ev.Outcome, ev.Code, ev.Words, ev.Started
	if ev.Started == 0 || ev.Started > m.now {
		s.lastStarted = s.asked
	}
	m.countResult(s)
	s.back = s.back && (ev.Outcome == SawStandby || ev.Outcome == SawAlive)
	if ev.Server == m.known.index {
		m.checkCut(s)
	}
	switch ev.Outcome {
	case SawPrimary, SawStandby:
		s.obs = ev.Obs
		m.observe(ev.Server)
	case SawAlive:
		m.cannotLogIn(s)
	case SawRefused, SawTimeout, SawSilent, SawUnreachable, SawNoAddress, SawStarting, SawShutdown:
	}
	if ev.Server == m.known.index && s.deadRow >= m.cfg.ProbeCount && s.refusedRow < m.cfg.ProbeCount {
		m.first = append(m.first, AskActivity{ev.Server})
	}
	m.changed()
}

// countResult counts the dead results in a row, for confirmation.
func (m *Machine) countResult(s *server) {
	switch s.last {
	case SawPrimary, SawStandby, SawAlive:
		s.met = true
		s.deadRow, s.refusedRow, s.starting = 0, 0, false
		s.answered = s.lastStarted
		return
	case SawStarting, SawShutdown:
		s.met = true
		if !s.starting {
			s.starting, s.startingSince = true, m.now
		}
		if m.now-s.startingSince < m.cfg.StartupGrace {
			s.deadRow, s.refusedRow = 0, 0
			if s.code != "57P02" { // the server says this after a crash, which announces nothing
				s.announced, s.announcedAt = true, m.now
			}
			return
		}
		s.announced = false
		s.refusedRow++
	case SawRefused:
		s.refusedRow++
	case SawTimeout, SawSilent, SawUnreachable, SawNoAddress:
		s.refusedRow = 0
	}
	if s.deadRow == 0 {
		s.firstDead = s.lastStarted
	}
	s.deadRow++
}

// observe records what a logged-in probe has read, and what this means for the server's state.
func (m *Machine) observe(i int) {
	s := m.servers[i]
	o := s.obs
	if o.SystemID != 0 {
		if s.system != 0 && s.system != o.SystemID {
			m.newIdentity(i)
		}
		s.system = o.SystemID
	}
	s.timeline = max(s.timeline, o.Timeline)
	if s.last == SawPrimary && o.Timeline != 0 {
		s.timeline = o.Timeline
	}
	if s.last == SawStandby && o.Receiver == ReceiverUnknown {
		m.logOnce("monitor "+s.cfg.Name, Warn, "pg_stat_wal_receiver is not readable, so whether the standby receives is unknown",
			Attr{"server", s.cfg.Name}, Attr{"hint", m.monitorHint()})
	}
	m.findTwins(i)
	if o.Receiver == ReceiverStreaming && o.LastMsgKnown {
		s.look(o.LastMsgAge, m.now)
	}
	m.sample(s)
	if i == m.known.index {
		m.observePrimary(s)
		return
	}
	m.classify(i)
}

func (m *Machine) observePrimary(s *server) {
	if s.last != SawPrimary || m.phase == PhaseStarting || !m.known.verified {
		return
	}
	inUse := m.phase == PhaseOpen || m.phase == PhaseSuspect
	if m.foreign(s) && !inUse {
		return // another system in its place; it is the primary only once it is opened
	}
	m.known.identify(s.system, 0)
	if inUse {
		m.known.identify(0, s.obs.Timeline)
	}
	m.known.note(s.obs, m.now)
}

// newIdentity drops what was known about a server whose system identifier has changed.
func (m *Machine) newIdentity(i int) {
	s := m.servers[i]
	m.log(Warn, "another system identifier: what was recorded of this server is ignored",
		Attr{"server", s.cfg.Name}, Attr{"recorded", fmt.Sprint(s.system)}, Attr{"seen", fmt.Sprint(s.obs.SystemID)})
	s.timeline, s.excluded, s.recheck = 0, false, false
	if i == m.known.index {
		m.primaryReplaced(i)
		return
	}
	if s.state == Failed && m.phase != PhaseRunning {
		m.become(i, NotInit, Plain, "another system identifier")
	}
}

// primaryReplaced drops the recorded primary if another system has taken its place while no primary is open. Then the
// servers' answers decide again. Two kinds of hold stay: after a run the candidate may be the only server with the
// data, and while failover is paused nothing was fenced.
func (m *Machine) primaryReplaced(i int) {
	ran := m.runs.last != nil && (m.runs.last.next >= 0 || m.runs.blocker != "")
	switch {
	case m.open || ran || m.hold == holdPaused:
	case m.phase == PhaseStarting:
		m.forgetPrimary()
	case m.phase == PhaseHeld:
		m.forgetPrimary()
		m.holdOn(holdNoPrimary, m.nameOf(i)+" has another system identifier than the recorded primary")
	}
}

// classify sets the state of a server that is not the primary, according to its role.
func (m *Machine) classify(i int) {
	s := m.servers[i]
	if m.phase == PhaseRunning && m.runs.current != nil && i == m.runs.current.next {
		return
	}
	switch {
	case m.alias(i):
		m.become(i, NotInit, Plain, m.aliasText(i))
	case s.last == SawPrimary && m.barred(s):
		m.become(i, Failed, SplitBrain, "writable although "+m.nameOf(m.known.index)+" replaced it: never used")
	case s.last == SawPrimary:
		// what a writable server means depends on the phase
	case s.state == Failed:
		if s.spared && !m.foreign(s) && (m.known.timeline == 0 || s.timeline == m.known.timeline) {
			m.become(i, Replica, Plain, "in recovery on the recorded timeline after its failed run")
		} else if s.excluded {
			m.backAsStandby(i)
		} else if s.qual == SplitBrain {
			m.become(i, Failed, Plain, "in recovery again")
		}
	case m.foreign(s):
		m.become(i, NotInit, Plain, "another system identifier")
	default:
		s.relabel = false
		m.classifyStandby(i)
	}
}

func (m *Machine) classifyStandby(i int) {
	s := m.servers[i]
	if !s.recheck || m.phase == PhaseStarting {
		m.become(i, Replica, Plain, "in recovery")
		return
	}
	if m.follows(s) {
		s.recheck = false
		m.become(i, Replica, Plain, "follows the primary's timeline")
		return
	}
	if m.notifyUntried() || m.phase != PhaseOpen {
		return // it has until the notify script has run
	}
	why := fmt.Sprintf("in recovery, but not streaming on timeline %d", m.known.timeline)
	if s.state == NotInit {
		m.become(i, NotInit, Plain, why)
		return
	}
	m.become(i, Replica, Detached, why)
}

// follows reports whether a standby is on the primary's timeline: streaming, or as far as can be seen without
// pg_monitor.
func (m *Machine) follows(s *server) bool {
	if s.last != SawStandby || s.obs.Receiver == ReceiverGone || m.foreign(s) {
		return false
	}
	return m.known.timeline == 0 || s.timeline >= m.known.timeline
}

func (m *Machine) onHinted(ev Hinted) {
	if !m.valid(ev.Server) || ev.Epoch != m.epoch {
		return
	}
	s := m.servers[ev.Server]
	switch {
	case ev.Kind == HintDied:
		s.announced = false
	case ev.Code == "57P01" || ev.Code == "57P03":
		s.announced, s.announcedAt = true, m.now
	}
	s.wanted = true
}

// onLoginSeen takes a server's role from a worker's login. It counts only if probes can't log in.
func (m *Machine) onLoginSeen(ev LoginSeen) {
	if !m.valid(ev.Server) || ev.Epoch != m.epoch || ev.Hot == HotStandbyUnknown {
		return
	}
	s := m.servers[ev.Server]
	if s.last != SawAlive && s.last != 0 && s.code != seenByLogin {
		if (s.last == SawPrimary) != (ev.Hot == HotStandbyOff) {
			s.wanted = true
		}
		return
	}
	s.obs, s.lastStarted = Observation{}, m.now
	s.last, s.code = SawStandby, seenByLogin
	if ev.Hot == HotStandbyOff {
		s.last = SawPrimary
	}
	m.countResult(s)
	m.observe(ev.Server)
	m.changed()
}

func (m *Machine) onActivity(ev Activity) {
	if !m.valid(ev.Server) {
		return
	}
	s := m.servers[ev.Server]
	s.activityAt, s.activityKnown = m.now, true
	if !ev.Never && (!s.byteKnown || m.now-ev.Age > s.byteAt) {
		s.byteAt, s.byteKnown = m.now-ev.Age, true
	}
}
