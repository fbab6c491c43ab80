package failover

import (
	"cmp"
	"fmt"
	"slices"
)

// entrant is one server as the ranking sees it: plain values, so that the ranking is a pure function.
type entrant struct {
	index     int
	place     int // in the configuration
	name      string
	failed    string // why it is Failed or can't be promoted at all, "" if neither
	candidate bool   // failover_candidate
	seen      string // latest probe in words
	outcome   Outcome
	fresh     bool // its latest probe began after choosing began, and not long ago
	foreign   bool
	timeline  uint32
	followed  bool // was seen on the recorded primary's timeline
	lsn       uint64
	sync      bool // was a synchronous standby of the old primary
	priority  int
	paused    bool
}

// terms are the requirements for a candidate that follow from what was last seen of the old primary.
type terms struct {
	maxLag   uint64 // 0: no limit
	lsn      uint64 // last LSN seen on the primary
	lsnKnown bool   // lsn is known and recent enough
}

// rank returns the eligible servers, best first, and a verdict for each.
func rank(t terms, entrants []entrant) (order []entrant, verdicts []Verdict) {
	why := make([]string, len(entrants))
	eligible := 0
	for i, e := range entrants {
		why[i] = t.refuses(e)
		if why[i] == "" {
			eligible++
		}
	}
	for i, e := range entrants {
		if why[i] == "" && !e.followed && !e.foreign && (eligible > 1 || t.maxLag > 0) {
			why[i] = "never seen on the recorded primary's timeline"
		}
		if why[i] == "" {
			order = append(order, e)
		}
	}
	slices.SortStableFunc(order, compare)
	for i, e := range entrants {
		v := why[i]
		switch {
		case v != "":
		case len(order) > 0 && order[0].index == e.index:
			v = "chosen"
		default:
			v = "eligible"
		}
		verdicts = append(verdicts, Verdict{Name: e.name, Timeline: e.timeline, LSN: lsnText(e.lsn), Verdict: v})
	}
	return order, verdicts
}

// refuses returns why a server can't be promoted, "" if it can.
func (t terms) refuses(e entrant) string {
	switch {
	case e.failed != "":
		return e.failed
	case !e.candidate:
		return "failover_candidate is off"
	case !e.fresh:
		return "not reachable"
	case e.outcome == SawAlive:
		return "role unknown: " + e.seen
	case e.outcome == SawPrimary && !e.foreign:
		return fmt.Sprintf("writable on timeline %d, which is not higher", e.timeline)
	case e.outcome != SawStandby && e.outcome != SawPrimary:
		return "not reachable: " + e.seen
	case t.maxLag == 0 || e.foreign:
		return ""
	case !t.lsnKnown:
		return "failover_max_lag is set, but the primary's last LSN is unknown or too old"
	case t.lsn > e.lsn && t.lsn-e.lsn > t.maxLag:
		return fmt.Sprintf("%d bytes behind, failover_max_lag is %d", t.lsn-e.lsn, t.maxLag)
	}
	return ""
}

// compare is the only place that compares two candidates; a negative result means that a is better.
func compare(a, b entrant) int {
	return cmp.Or(
		worse(a.foreign, b.foreign),
		compareData(a, b),
		-cmp.Compare(a.priority, b.priority),
		worse(a.paused, b.paused),
		cmp.Compare(a.place, b.place),
	)
}

// compareData compares how much of the primary's data two candidates have; a negative result means that a has more.
func compareData(a, b entrant) int {
	return cmp.Or(-cmp.Compare(a.timeline, b.timeline), -worse(a.sync, b.sync), -cmp.Compare(a.lsn, b.lsn))
}

// worse orders true after false.
func worse(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func lsnText(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)) }

// sample compares the LSN of a server with the previous sample. Two equal samples an interval apart count as stable.
func (m *Machine) sample(s *server) {
	if m.phase != PhaseChoosing || s.lastStarted < m.since {
		return
	}
	lsn := s.lsn()
	if s.sampled && lsn == s.sampleLSN {
		s.stable = s.stable || m.now-s.sampleAt >= sampleInterval
		return
	}
	s.sampled, s.sampleLSN, s.sampleAt, s.stable = true, lsn, m.now, false
}

func (m *Machine) entrants() []entrant {
	var out []entrant
	for i, s := range m.each() {
		if i == m.known.index {
			continue
		}
		e := entrant{
			index: i, place: m.place(i), name: s.cfg.Name, candidate: s.cfg.Candidate, seen: s.seen(), outcome: s.last,
			fresh: s.fresh(max(m.since, m.now-m.cfg.ProbeTimeout)), foreign: m.foreign(s), timeline: s.timeline, followed: m.known.timeline == 0 || s.timeline >= m.known.timeline,
			lsn: s.lsn(), sync: slices.Contains(m.known.sync, s.cfg.Name), priority: s.cfg.Priority, paused: s.obs.Paused,
		}
		switch {
		case m.alias(i):
			e.failed = m.aliasText(i)
		case s.state == Failed:
			e.failed = "Failed: " + s.reason
		case s.qual == SplitBrain:
			e.failed = s.reason
		case s.qual == Detached:
			e.failed = "detached: " + s.reason
		}
		out = append(out, e)
	}
	return out
}

func (m *Machine) terms() terms {
	t := terms{maxLag: m.cfg.MaxLag, lsn: m.known.lsn}
	if m.known.lsn != 0 && m.known.index >= 0 {
		t.lsnKnown = m.servers[m.known.index].firstDead-m.known.lsnAt <= 2*m.cfg.HealthCheckPeriod
	}
	return t
}

// evalChoosing has every server probed again. Then it adopts a server, runs the script for the best candidate, or gives
// up.
func (m *Machine) evalChoosing() {
	old := m.servers[m.known.index]
	if m.beforeTheCut(old) {
		return
	}
	if m.answered(old) {
		return
	}
	if m.outdated(old) {
		m.waitFor("waiting for a look at " + old.cfg.Name)
		return
	}
	if m.pausing() {
		m.holdPaused(m.why)
		return
	}
	if i := m.adoptable(); i >= 0 && m.servers[i].fresh(m.since) {
		m.adopt(i, "writable on a higher timeline while "+old.cfg.Name+" is dead")
		return
	}
	order, verdicts := rank(m.terms(), m.entrants())
	m.verdicts = verdicts
	if !m.sampledEnough(order) {
		return
	}
	if m.fence.aim == aimOrdered {
		m.runOrder(order)
		return
	}
	if m.cfg.Follow {
		m.waitForOthers()
		return
	}
	if len(order) == 0 {
		m.waitFor("no candidate has answered yet")
		if !m.hopeful() {
			m.noCandidate()
		}
		return
	}
	if name := m.ahead(order[0]); name != "" {
		m.waitFor(fmt.Sprintf("waiting for %s, which has received more than %s", name, order[0].name))
		return
	}
	m.tryRun(order[0].index)
}

// outdated reports whether the last probe of the old primary is too old for the pace of probes. Then this process was
// stopped meanwhile, and the old primary may be back.
func (m *Machine) outdated(old *server) bool {
	return m.now-old.lastStarted > 2*m.cfg.ProbeTimeout+m.cfg.ProbeInterval+stopSlack && m.now < m.since+m.cfg.RunnerWait
}

// ahead returns a server that has more of the primary's data than the best candidate, and that may still answer. With
// synchronous replication it may be the only one with an acknowledged commit, so one slow or lost probe must not
// exclude it.
func (m *Machine) ahead(best entrant) string {
	if m.now >= m.since+m.cfg.RunnerWait {
		return ""
	}
	t := m.terms()
	for _, e := range m.entrants() {
		s := m.servers[e.index]
		if e.outcome == SawPrimary || e.outcome == SawAlive || e.foreign != best.foreign || !e.followed || s.noAddress || !m.mayAnswer(s) {
			continue
		}
		e.fresh, e.outcome = true, SawStandby
		if t.refuses(e) == "" && compareData(e, best) < 0 {
			return e.name
		}
	}
	return ""
}

// answered cancels a failover that has run nothing yet, if the old primary answers. It reports whether the choice is
// over.
func (m *Machine) answered(old *server) bool {
	switch {
	case m.fence.aim != aimOrdered:
	case m.fence.overrules(old.last):
		return false
	case m.runs.last != nil:
		m.dropOrder("the old primary answers: " + old.seen())
		return true
	}
	switch old.last {
	case SawPrimary:
		m.reopen("the primary answered again before anything was run")
		return true
	case SawStandby:
		m.become(m.known.index, Primary, NotWritable, "in recovery")
		if !m.known.verified {
			m.enter(PhaseVerifying, "it answers, still in recovery")
			return true
		}
		m.holdOn(holdDemoted, old.cfg.Name+" answers as a standby")
		return true
	case SawAlive:
		m.alive(old)
		return true
	case SawStarting, SawShutdown:
		if old.deadRow == 0 {
			m.enter(PhaseSuspect, "the primary is starting up")
			return true
		}
	case SawRefused, SawTimeout, SawSilent, SawUnreachable, SawNoAddress:
	}
	return false
}

// sampledEnough reports whether every server has answered and the LSNs stand still, or two seconds have passed.
func (m *Machine) sampledEnough(order []entrant) bool {
	if m.now >= m.since+sampleTime {
		return true
	}
	for i, s := range m.each() {
		if i != m.known.index && !s.excluded && !m.alias(i) && !s.fresh(m.since) {
			return false
		}
	}
	if len(order) < 2 {
		return true // nothing to compare with
	}
	for _, e := range order {
		if !m.servers[e.index].stable {
			return false
		}
	}
	return true
}

// hopeful reports whether some server may still turn out to be a candidate. Giving up is final, so a lost probe or a
// standby that is starting up must not cause it.
func (m *Machine) hopeful() bool {
	for i, s := range m.each() {
		if i == m.known.index || s.excluded || m.alias(i) || s.state == Failed || s.qual != Plain || !s.cfg.Candidate || s.noAddress {
			continue
		}
		if m.mayAnswer(s) {
			return true
		}
	}
	return false
}

// mayAnswer reports whether the next probe of a server may show more than the latest one did.
func (m *Machine) mayAnswer(s *server) bool {
	if s.unseen && m.now < m.since+m.cfg.RunnerWait {
		return true
	}
	switch s.last {
	case SawStandby, SawPrimary: // rank has judged a recent answer, but none from before the choice began
		judged := s.fresh(max(m.since, m.now-m.cfg.ProbeTimeout))
		return !judged && m.now < max(s.lastStarted+m.cfg.RunnerWait, m.since+m.cfg.ProbeTimeout+stopSlack)
	case SawStarting, SawShutdown:
		return s.deadRow == 0
	case SawRefused, SawTimeout, SawSilent, SawUnreachable:
		return s.deadRow < m.cfg.ProbeCount
	case SawAlive, SawNoAddress:
	}
	return m.now < m.since+m.cfg.RunnerWait && (s.last == 0 || s.code == tooManyConnections)
}

func (m *Machine) noCandidate() {
	old := m.known.index
	m.log(Error, "New primary could not be found", Attr{"old", m.nameOf(old)})
	m.remember(HistoryEntry{Kind: "no_candidate", Reason: m.why, Result: "New primary could not be found", Old: m.nameOf(old)})
	m.giveUpOn(holdNoCandidate, "New primary could not be found")
}
