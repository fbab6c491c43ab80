package failover

import (
	"errors"
	"fmt"
	"time"
)

// Times of a planned switchover that are part of the rules.
const (
	planTimeout   = 10 * time.Second       // of switch-to without --timeout; less than failover_client_wait, so that no client is refused
	quiesceRepeat = 100 * time.Millisecond // between two questions to the workers
	quiesceLate   = time.Second            // a question without an answer is repeated after this
	// catchUpTime is how long the standby gets at least to replay everything, once all workers have cut their backends.
	catchUpTime = 5 * time.Second
	// quietTime is how long the fenced primary's LSN has to stand still. A commit that doesn't wait for its WAL shows
	// there within three wal_writer_delay of 200 ms.
	quietTime = 700 * time.Millisecond
)

// planStage is how far a planned switchover has come.
//
//	draining --idle--> fencing --Fenced--> catching up --replayed--> running --> (the run's own phases)
//	    |                 |                    |
//	    +-----------------+--------------------+--> given up: the old primary opens again, same epoch
type planStage uint8

const (
	planDraining   planStage = iota // waiting for running transactions
	planFencing                     // every worker cuts its backends
	planCatchingUp                  // waiting until the old primary is quiet and the standby has replayed everything
	planRunning                     // the script has been started
)

// plan is a planned switchover, from its command to its answer.
type plan struct {
	command command
	target  int
	stage   planStage
	until   time.Duration // when to stop waiting for running transactions
	asked   time.Duration // time of the last question to the workers
	told    bool          // the last question was answered
	busy    int           // running transactions, according to the answer
	fenced  time.Duration // when all workers had cut their backends
	lsn     uint64        // last LSN of the fenced primary
	lsnAt   time.Duration // since when lsn is unchanged
	why     string        // why it failed, "" so far
}

var errPlanned = errors.New("a switchover is under way: try again when it has ended")

// plannable reports whether a switch-to asks for a planned switchover: the named server is a standby of a working
// primary.
func (m *Machine) plannable(c command) bool {
	if !m.cfg.Enabled || m.cfg.Follow || m.phase != PhaseOpen || m.known.index < 0 || c.index == m.known.index {
		return false
	}
	s, old := m.servers[c.index], m.servers[m.known.index]
	return s.last == SawStandby && s.fresh(c.at) && old.last == SawPrimary && old.fresh(c.at)
}

// startPlan holds new transactions and waits for the running ones.
func (m *Machine) startPlan(c command) {
	if err := m.planRefused(c); err != nil {
		m.answer(&c, err)
		return
	}
	wait := c.timeout
	if wait <= 0 {
		wait = planTimeout
	}
	m.plan = &plan{command: c, target: c.index, until: m.now + wait, busy: -1}
	m.setOpen(false)
	m.enter(PhaseSwitching, "switch to "+c.name+" by command: running transactions are waited for")
	m.askQuiet()
}

// planRefused returns why a planned switchover would fail.
func (m *Machine) planRefused(c command) error {
	s, old := m.servers[c.index], m.servers[m.known.index]
	switch {
	case m.pausing():
		return m.errPaused()
	case m.foreign(s):
		return fmt.Errorf("%s has another system identifier", c.name)
	case s.timeline != m.known.timeline || m.known.timeline == 0:
		return fmt.Errorf("%s is on timeline %d, %s on %d", c.name, s.timeline, old.cfg.Name, m.known.timeline)
	case !m.follows(s):
		return fmt.Errorf("%s isn't streaming", c.name)
	case s.obs.Paused:
		return fmt.Errorf("replay is paused or delayed on %s", c.name)
	case old.obs.WriteLSN == 0:
		return fmt.Errorf("the LSN of %s can't be read: set health_check_user", old.cfg.Name)
	}
	for _, e := range m.entrants() {
		e.fresh = true
		if why := m.terms().refuses(e); e.index == c.index && why != "" {
			return fmt.Errorf("%s can't be promoted: %s", c.name, why)
		}
	}
	if blocked := m.runBlocked(); blocked != "" {
		return errors.New(blocked)
	}
	return nil
}

// askQuiet asks every worker how many transactions are running. The question also makes workers end idle sessions.
func (m *Machine) askQuiet() {
	m.plan.asked, m.plan.told = m.now, false
	m.later(Quiesce{Epoch: m.epoch})
}

func (m *Machine) onQuiesced(ev Quiesced) {
	p := m.plan
	if p == nil || p.stage != planDraining || ev.Epoch != m.epoch {
		return
	}
	p.told, p.busy = true, ev.Busy
	m.changed()
}

// evalSwitching moves a planned switchover on, up to the start of its script.
func (m *Machine) evalSwitching() {
	p := m.plan
	old, s := m.servers[m.known.index], m.servers[p.target]
	switch {
	case old.last == SawStandby:
		p.why = old.cfg.Name + " is in recovery now"
		m.demote(old)
	case old.deadRow > 0 || old.starting:
		p.why = old.cfg.Name + " no longer answers: " + old.seen()
		m.enter(PhaseSuspect, p.why)
	case s.last != SawStandby && s.last != SawAlive:
		m.giveUp(s.cfg.Name + " can't be promoted any more: " + s.seen())
	case m.stopping:
		m.giveUp("the pooler is stopping")
	case p.stage == planDraining:
		m.drain(p)
	default:
		m.catchUp(p)
	}
}

// drain waits for the end of the running transactions, then cuts the remaining, idle connections.
func (m *Machine) drain(p *plan) {
	switch {
	case p.told && p.busy == 0:
		p.stage = planFencing
		m.startFence(purpose{aim: aimPlanned}, m.why)
	case m.now >= p.until:
		m.giveUp(fmt.Sprintf("%s still running after %s", transactions(p.busy), short(m.now-m.since)))
	case m.now >= m.quietDue():
		m.askQuiet()
	}
	if p.busy > 0 {
		m.waitFor(fmt.Sprintf("switch to %s by command: %s still running", p.command.name, transactions(p.busy)))
	}
}

func transactions(n int) string {
	switch {
	case n < 0:
		return "it is unknown how many transactions are"
	case n == 1:
		return "1 transaction is"
	}
	return fmt.Sprintf("%d transactions are", n)
}

// quietDue returns when the workers are to be asked again.
func (m *Machine) quietDue() time.Duration {
	if m.plan.told {
		return m.plan.asked + quiesceRepeat
	}
	return m.plan.asked + quiesceLate
}

// planDeadline sets when the plan must be evaluated at the latest. While the standby catches up, the end of each probe
// evaluates it, too.
func (m *Machine) planDeadline(d *deadline) {
	if m.plan.stage == planDraining {
		d.at(min(m.quietDue(), m.plan.until))
	} else if m.plan.until > m.now {
		d.at(m.plan.until)
	}
}

// afterPlanFence goes on when all workers have cut their backends.
func (m *Machine) afterPlanFence() {
	p := m.plan
	p.stage, p.fenced, p.lsn = planCatchingUp, m.now, 0
	p.until = max(p.until, m.now+catchUpTime)
	m.enter(PhaseSwitching, "switch to "+p.command.name+" by command: it replays the last transactions")
}

// catchUp starts the script once the old primary has written nothing for a while and the standby has replayed
// everything.
func (m *Machine) catchUp(p *plan) {
	old, s := m.servers[m.known.index], m.servers[p.target]
	if old.last == SawPrimary && old.lastStarted >= p.fenced && old.obs.WriteLSN != p.lsn {
		p.lsn, p.lsnAt = old.obs.WriteLSN, m.now
	}
	quiet := p.lsn != 0 && old.last == SawPrimary && old.lastStarted >= p.lsnAt+quietTime
	replayed := s.last == SawStandby && s.obs.ReplayLSN >= p.lsn && s.obs.Receiver != ReceiverGone
	switch {
	case quiet && replayed:
		m.runPlan(p)
	case m.now < p.until:
	case !quiet:
		m.giveUp(old.cfg.Name + " still writes, although pgagroal sends it nothing: somebody else is connected to it")
	default:
		m.giveUp(fmt.Sprintf("%s has replayed %s, %s has written %s", s.cfg.Name, lsnText(s.obs.ReplayLSN), old.cfg.Name, lsnText(p.lsn)))
	}
}

func (m *Machine) runPlan(p *plan) {
	if blocked := m.runBlocked(); blocked != "" {
		m.giveUp(blocked)
		return
	}
	p.stage = planRunning
	old := m.known.index
	m.verdicts = nil
	m.become(old, Failover, Plain, "planned switchover to "+p.command.name)
	m.startRun(HookFailover, old, p.target, m.hostPorts(old, p.target), m.cfg.ScriptTimeout, "planned switchover")
	m.enter(PhaseRunning, "run "+m.runs.current.id+" promotes "+p.command.name)
}

// giveUp opens the old primary again under the same epoch: nothing was promoted.
func (m *Machine) giveUp(why string) {
	m.plan.why = why
	m.log(Warn, "the switchover was given up", Attr{"server", m.plan.command.name}, Attr{"why", why})
	if m.servers[m.known.index].last != SawPrimary {
		m.enter(PhaseSuspect, "the switchover was given up: "+why)
		return
	}
	m.reopen("the switchover was given up: " + why)
}

// oldFate returns what a change of primary means for the old one: after a planned switchover it is a healthy server.
func (m *Machine) oldFate() fate {
	if m.plan != nil && m.plan.stage == planRunning {
		return fateNotInit
	}
	return fateExcluded
}

// evaluatePlan answers the command once the outcome is known.
func (m *Machine) evaluatePlan() {
	p := m.plan
	if p == nil {
		return
	}
	switch m.phase {
	case PhaseSwitching, PhaseRunning:
		return
	case PhaseFencing:
		if p.stage == planFencing {
			return
		}
	case PhaseVerifying:
		if m.now < m.since+m.cfg.VerifyTimeout {
			return
		}
		p.why = "the script ended with exit code 0, but " + p.command.name + " is not out of recovery: clients wait"
	case PhaseHeld:
		if m.runs.last != nil && m.runs.last.planned && m.now < m.since+m.commandTime() {
			return // rule 8 may still open the old primary again
		}
	case PhaseNew, PhaseStarting, PhaseOpen, PhaseSuspect, PhaseChoosing:
	}
	m.plan = nil
	if m.phase == PhaseOpen && m.known.index == p.target {
		m.answerNext(&p.command, nil, p.command.name+" is the primary")
		return
	}
	m.answer(&p.command, errors.New(m.planFailure(p)))
}

// planFailure says what went wrong, and what that means for the clients.
func (m *Machine) planFailure(p *plan) string {
	why := p.why
	if why == "" {
		why = m.why
	}
	switch {
	case m.phase == PhaseOpen:
		return why + "; " + m.nameOf(m.known.index) + " is the primary as before"
	case m.phase == PhaseHeld:
		return why + "; clients wait, which ends with " + m.holdCommand()
	}
	return why + "; see pgagroal-cli failover status"
}
