package failover

// kind is the number of an event, as an index of the table.
type kind int

const (
	kindStarted kind = iota
	kindTick
	kindProbeDone
	kindHinted
	kindLoginSeen
	kindActivity
	kindFenced
	kindRunStarted
	kindRunEnded
	kindRunLost
	kindRunGroupEmpty
	kindRunnerUp
	kindRunnerDown
	kindRunnerSilent
	kindNotifyBroken
	kindRunsAllowed
	kindSaveDone
	kindClearServer
	kindSwitchTo
	kindReset
	kindQuiesced
	kindPause
	kindResume
	kindClientsPaused
	kindTrigger
	kindRehearse
	kindReconfigured
	kindUpgraded
	kindStopping
	kinds
)

var kindNames = [...]string{
	"Started", "Tick", "ProbeDone", "Hinted", "LoginSeen", "Activity", "Fenced", "RunStarted", "RunEnded", "RunLost",
	"RunGroupEmpty", "RunnerUp", "RunnerDown", "RunnerSilent", "NotifyBroken", "RunsAllowed", "SaveDone", "ClearServer", "SwitchTo", "Reset", "Quiesced", "Pause", "Resume", "ClientsPaused", "Trigger", "Rehearse", "Reconfigured", "Upgraded", "Stopping",
}

func (k kind) String() string { return name(kindNames[:], int(k)) }

const phases = int(PhaseHeld) + 1

// rule says what one phase does with one event: call on, or ignore the event for a reason.
type rule struct {
	on      func(*Machine, Event)
	ignored string
}

type row [phases]rule

func handle[E Event](f func(*Machine, E)) rule {
	return rule{on: func(m *Machine, ev Event) {
		if e, ok := ev.(E); ok {
			f(m, e)
		}
	}}
}

func ignore(why string) rule { return rule{ignored: why} }

// all makes a row with one rule in every phase; but replaces the rule in some.
func all(r rule) row {
	var out row
	for p := range out {
		out[p] = r
	}
	return out
}

func (w row) but(r rule, ps ...Phase) row {
	for _, p := range ps {
		w[p] = r
	}
	return w
}

var (
	tooEarly = ignore("not started yet")
	noServer = ignore("nothing is attached to a server now, and every server is being probed")
)

// table says what every phase does with every event.
var table = [kinds]row{
	kindStarted:   all(ignore("started already")).but(handle((*Machine).onStarted), PhaseNew),
	kindTick:      all(handle((*Machine).onTick)).but(tooEarly, PhaseNew),
	kindProbeDone: all(handle((*Machine).onProbeDone)).but(tooEarly, PhaseNew),
	kindHinted: all(handle((*Machine).onHinted)).but(tooEarly, PhaseNew).
		but(noServer, PhaseStarting, PhaseFencing, PhaseChoosing, PhaseRunning, PhaseHeld),
	kindLoginSeen: all(handle((*Machine).onLoginSeen)).but(tooEarly, PhaseNew).
		but(noServer, PhaseStarting, PhaseFencing, PhaseChoosing, PhaseRunning, PhaseHeld),
	kindActivity:      all(handle((*Machine).onActivity)).but(tooEarly, PhaseNew),
	kindFenced:        all(ignore("no fence waits for it")).but(handle((*Machine).onFenced), PhaseFencing),
	kindRunStarted:    all(handle((*Machine).onRunStarted)).but(tooEarly, PhaseNew),
	kindRunEnded:      all(handle((*Machine).onRunEnded)),
	kindRunLost:       all(handle((*Machine).onRunLost)),
	kindRunGroupEmpty: all(handle((*Machine).onRunGroupEmpty)),
	kindRunnerUp:      all(handle((*Machine).onRunnerUp)),
	kindRunnerDown:    all(handle((*Machine).onRunnerDown)),
	kindRunnerSilent:  all(handle((*Machine).onRunnerSilent)),
	kindNotifyBroken:  all(handle((*Machine).onNotifyBroken)),
	kindRunsAllowed:   all(handle((*Machine).onRunsAllowed)),
	kindSaveDone:      all(handle((*Machine).onSaveDone)),
	kindClearServer: all(handle((*Machine).onClearServer)).
		but(handle((*Machine).refuseClear), PhaseNew, PhaseRunning),
	kindSwitchTo: all(handle((*Machine).onSwitchTo)).
		but(handle((*Machine).refuseSwitch), PhaseNew, PhaseRunning),
	kindReset:    all(handle((*Machine).onReset)).but(handle((*Machine).refuseReset), PhaseNew),
	kindQuiesced: all(ignore("no switchover waits for it")).but(handle((*Machine).onQuiesced), PhaseSwitching),
	kindPause: all(handle((*Machine).onPause)).
		but(handle((*Machine).refusePause), PhaseNew, PhaseRunning),
	kindClientsPaused: all(handle((*Machine).onClientsPaused)),
	kindResume:        all(handle((*Machine).onResume)).but(handle((*Machine).refuseResume), PhaseNew),
	kindTrigger: all(handle((*Machine).onTrigger)).
		but(handle((*Machine).refuseTrigger), PhaseNew, PhaseRunning),
	kindRehearse: all(handle((*Machine).onRehearse)).
		but(handle((*Machine).refuseRehearse), PhaseNew, PhaseRunning),
	kindReconfigured: all(handle((*Machine).onReconfigured)),
	kindUpgraded:     all(handle((*Machine).onUpgraded)),
	kindStopping:     all(handle((*Machine).onStopping)),
}

func kindOf(ev Event) kind {
	switch ev.(type) {
	case Started:
		return kindStarted
	case Tick:
		return kindTick
	case ProbeDone:
		return kindProbeDone
	case Hinted:
		return kindHinted
	case LoginSeen:
		return kindLoginSeen
	case Activity:
		return kindActivity
	case Fenced:
		return kindFenced
	case RunStarted:
		return kindRunStarted
	case RunEnded:
		return kindRunEnded
	case RunLost:
		return kindRunLost
	case RunGroupEmpty:
		return kindRunGroupEmpty
	case RunnerUp:
		return kindRunnerUp
	case RunnerDown:
		return kindRunnerDown
	case RunnerSilent:
		return kindRunnerSilent
	case NotifyBroken:
		return kindNotifyBroken
	case RunsAllowed:
		return kindRunsAllowed
	case SaveDone:
		return kindSaveDone
	case Quiesced:
		return kindQuiesced
	case Reconfigured:
		return kindReconfigured
	case Upgraded:
		return kindUpgraded
	case Stopping:
		return kindStopping
	}
	return kindOfOrder(ev)
}

// kindOfOrder is kindOf for what an operator orders.
func kindOfOrder(ev Event) kind {
	switch ev.(type) {
	case ClearServer:
		return kindClearServer
	case SwitchTo:
		return kindSwitchTo
	case Reset:
		return kindReset
	case Pause:
		return kindPause
	case Resume:
		return kindResume
	case ClientsPaused:
		return kindClientsPaused
	case Trigger:
		return kindTrigger
	case Rehearse:
		return kindRehearse
	}
	return kinds
}

// dispatch calls the handler of an event. It logs and drops a value that is no known event.
func (m *Machine) dispatch(k kind, ev Event) {
	if k >= kinds || int(m.phase) >= phases {
		m.log(Error, "unknown event")
		return
	}
	r := table[k][m.phase]
	if r.on == nil {
		m.log(Debug, "event ignored", Attr{"event", k.String()}, Attr{"phase", m.phase.String()}, Attr{"why", r.ignored})
		return
	}
	r.on(m, ev)
}

func (m *Machine) onTick(Tick) {}

func (m *Machine) onStopping(Stopping) {
	m.stopping = true
	m.changed()
	m.saving.anew() // with the last LSN
}
