package failover

import (
	"fmt"
	"maps"
	"strconv"
	"time"
)

// run is one execution of a hook in progress.
type run struct {
	id      string
	hook    string
	old     int
	next    int
	args    []string
	at      time.Duration
	timeout time.Duration
	reason  string
	stop    bool // StopRun was sent
}

// ended is the run that a hold is about, or says that none was started. Rule 8 needs its candidate.
type ended struct {
	hold hold
	id   string
	old  int
	next int // -1: no run started
	why  string
	// planned: the old primary worked, so rule 8 is applied whatever failover_settle says.
	planned bool
	// left: processes of the run may go on, so that a person must check before the old primary is used again.
	left bool
}

// runBlocked returns why no run can start now, "" if one can. A lock shared by several poolers would be checked here.
func (m *Machine) runBlocked() string {
	switch {
	case !m.cfg.Enabled:
		return "failover is off"
	case m.cfg.Follow:
		return "failover_mode is follow"
	case m.stopping:
		return "the pooler is stopping"
	case m.pausing():
		what, _ := m.whatPauses()
		return what
	case m.runs.current != nil:
		return "run " + m.runs.current.id + " has not ended"
	case m.runs.blocker != "":
		return "processes of run " + m.runs.blocker + " may still be there"
	case !m.runner.allowed:
		return m.runner.holders()
	case !m.runner.up:
		return "the script runner is not available: " + m.runner.why
	}
	return ""
}

// tryRun starts the failover script for a candidate, after failover_fence_script if there is one. If something blocks the
// run, tryRun waits, and raises an alarm after RunnerWait.
func (m *Machine) tryRun(next int) {
	if !m.runs.cut && m.lockedOut() {
		return
	}
	blocked := m.runBlocked()
	if m.runs.current != nil && m.runs.current.hook == HookNotify && !m.runs.current.stop {
		m.runs.stop()
		m.later(StopRun{RunID: m.runs.current.id, Why: "its new primary is dead"})
	}
	if blocked != "" {
		m.waitFor(blocked)
		if m.now >= m.since+m.cfg.RunnerWait {
			m.raise("run_blocked", "a failover is due but can't be run: "+blocked)
		}
		return
	}
	m.clear("run_blocked")
	m.waitFor("")
	if m.cfg.FenceScript && !m.runs.cut {
		m.cutOff(next)
		return
	}
	old := m.known.index
	if !m.runs.cut {
		m.countAttempt()
	}
	m.startRun(HookFailover, old, next, m.hostPorts(old, next), m.cfg.ScriptTimeout, m.why)
	m.become(next, m.servers[next].state, m.servers[next].qual, "candidate of run "+m.runs.current.id)
	m.enter(PhaseRunning, "run "+m.runs.current.id+" promotes "+m.nameOf(next))
}

func (m *Machine) hostPorts(indexes ...int) []string {
	var out []string
	for _, i := range indexes {
		out = append(out, m.servers[i].cfg.Host, m.servers[i].cfg.Port)
	}
	return out
}

// startRun starts a run of a hook. The run's id is unique across restarts, and the record is durable before the run
// reaches the runner.
func (m *Machine) startRun(hook string, old, next int, args []string, timeout time.Duration, reason string) {
	id := fmt.Sprintf("%x-%d-%d", m.started.wall.UnixNano(), m.epoch, m.runs.count+1)
	m.runs.begin(&run{id: id, hook: hook, old: old, next: next, args: args, at: m.now, timeout: timeout, reason: reason})
	m.log(Debug, "run", Attr{"hook", hook}, Attr{"run", id}, Attr{"old", m.nameOf(old)}, Attr{"new", m.nameOf(next)}, Attr{"why", reason})
	m.later(StartRun{RunID: id, Hook: hook, Args: append([]string(nil), args...), Env: m.runEnv(m.runs.current), Timeout: timeout})
}

func (m *Machine) runEnv(r *run) map[string]string {
	env := map[string]string{
		"PGAGROAL_RUN_ID":   r.id,
		"PGAGROAL_HOOK":     r.hook,
		"PGAGROAL_EPOCH":    strconv.FormatUint(m.epoch, 10),
		"PGAGROAL_REASON":   r.reason,
		"PGAGROAL_OLD_NAME": m.nameOf(r.old),
		"PGAGROAL_NEW_NAME": m.nameOf(r.next),
		"PGAGROAL_TIMELINE": strconv.FormatUint(uint64(m.known.timeline), 10),
	}
	notify := r.hook == HookNotify
	for name, on := range map[string]bool{
		"PGAGROAL_PLANNED":   !notify && m.oldFate() == fateNotInit || notify && m.notify.planned,
		"PGAGROAL_FORCED":    !notify && m.fence.aim == aimOrdered && m.fence.command.force,
		"PGAGROAL_OLD_ALIVE": !notify && !m.runs.cut && m.servers[r.old].alive(),
	} {
		if on {
			env[name] = "on"
		}
	}
	if m.known.lsn != 0 {
		maps.Copy(env, map[string]string{
			"PGAGROAL_LSN":     lsnText(m.known.lsn),
			"PGAGROAL_LSN_AGE": strconv.FormatFloat(m.known.age(m.now).Seconds(), 'f', 1, 64),
		})
	}
	return env
}

func (m *Machine) onRunStarted(ev RunStarted) {
	if m.runs.current != nil && m.runs.current.id == ev.RunID {
		m.log(Debug, "the script runs", Attr{"run", ev.RunID})
	}
}

// onRunEnded handles the end of the current run. The end of a lost run only says that none of its processes is left.
func (m *Machine) onRunEnded(ev RunEnded) {
	if m.runs.current == nil || m.runs.current.id != ev.RunID {
		if m.runs.blocker == ev.RunID && ev.RunID != "" {
			m.onRunGroupEmpty(RunGroupEmpty{ev.RunID, ev.Left != ""})
		}
		return
	}
	r := m.runs.end()
	m.rememberRun(r, ev)
	switch r.hook {
	case HookNotify:
		m.notifyEnded(r, ev)
		return
	case HookFence:
		m.fenceEnded(r, ev)
		if ev.Left != "" {
			m.runs.leave(ev.RunID)
		}
		return
	}
	switch {
	case ev.Refused != "":
		m.runFailed(r, holdRefused, "the run was refused, nothing ran: "+ev.Refused)
	case ev.TimedOut:
		m.runFailed(r, holdFailed, "failover_script took longer than "+short(r.timeout)+leftText(ev))
	case ev.Signal != 0:
		m.runFailed(r, holdFailed, fmt.Sprintf("failover_script was ended by signal %d", ev.Signal))
	case ev.Exit != 0:
		m.runFailed(r, holdFailed, fmt.Sprintf("failover_script ended with exit code %d", ev.Exit))
	default:
		m.runSucceeded(r)
	}
	if ev.Left != "" {
		m.runs.leave(ev.RunID)
	}
}

// leftText lists the processes that couldn't be ended, so that a person can end them.
func leftText(ev RunEnded) string {
	if ev.Left == "" {
		return ""
	}
	return ", and can't be ended: process " + ev.Left
}

// runFailed makes the old server Failed and, if something ran, the new one as well. Epoch and primary stay as they are.
func (m *Machine) runFailed(r *run, h hold, why string) {
	m.log(Error, "failover failed", Attr{"run", r.id}, Attr{"old", m.nameOf(r.old)}, Attr{"new", m.nameOf(r.next)}, Attr{"why", why})
	m.become(r.old, Failed, Plain, why)
	if m.plan != nil {
		m.plan.why = why
	}
	next := -1
	if h != holdRefused && r.hook != HookFence {
		next = r.next
		m.become(next, Failed, Plain, why)
	}
	m.runs.conclude(ended{hold: h, id: r.id, old: r.old, next: next, why: why, planned: m.plan != nil})
	m.holdOn(h, why)
}

// onRunLost handles a lost run: its outcome is unknown, and no other run starts until none of its processes is left.
func (m *Machine) onRunLost(ev RunLost) {
	if m.runs.current == nil || m.runs.current.id != ev.RunID {
		return
	}
	m.loseRun("the link to the script runner broke, the outcome is unknown")
}

func (m *Machine) loseRun(why string) {
	r := m.runs.lose()
	m.log(Error, "run lost", Attr{"run", r.id}, Attr{"hook", r.hook}, Attr{"why", why})
	m.remember(HistoryEntry{Kind: r.hook, Reason: r.reason, Result: "unknown: " + why, RunID: r.id, Hook: r.hook, Args: r.args, Old: m.nameOf(r.old), New: m.nameOf(r.next)})
	if r.hook == HookNotify {
		m.notify.ended(m.now)
		m.raise(alarmNotify, "the outcome of the notify script is unknown: "+why)
		m.recheckStandbys()
		return
	}
	if r.hook == HookFence {
		m.runFailed(r, holdFence, "the outcome of failover_fence_script is unknown: "+why)
		return
	}
	m.runFailed(r, holdLost, why)
}

func (m *Machine) onRunGroupEmpty(ev RunGroupEmpty) {
	if m.runs.blocker != ev.RunID || ev.RunID == "" {
		return
	}
	if ev.GivenUp {
		m.runs.leave(ev.RunID)
		m.log(Warn, "processes of the lost run may be left; they are not waited for any more", Attr{"run", ev.RunID})
	} else {
		m.log(Info, "nothing is left of the lost run", Attr{"run", ev.RunID})
	}
	m.runs.free()
	if m.phase == PhaseHeld {
		m.restart(m.now)
	}
}

func (m *Machine) onRunnerUp(RunnerUp) {
	m.runner.link(true, "")
	m.clear("runner")
}

func (m *Machine) onRunnerDown(ev RunnerDown) {
	m.runner.link(false, ev.Reason)
	if m.cfg.scripts() {
		m.raise("runner", "the script runner is not available: "+ev.Reason)
	}
}

func (m *Machine) onRunnerSilent(ev RunnerSilent) {
	if ev.Reason == "" || !m.cfg.scripts() {
		m.clear("runner_silent")
		return
	}
	m.raise("runner_silent", "the script runner hangs: "+ev.Reason)
}

func (m *Machine) onNotifyBroken(ev NotifyBroken) {
	m.set(ev.Reason != "" && m.cfg.scripts(), "notify_script", "failover_notify_script can't run: "+ev.Reason)
}

func (m *Machine) onRunsAllowed(ev RunsAllowed) {
	m.runner.allow(ev.Allowed, ev.Holder)
	m.set(!ev.Allowed && ev.Holder != "" && m.cfg.scripts(), "state_dir", "no script can run: "+m.runner.holders())
}

// evaluateRun gives up a run whose end wasn't reported long after its time-out. Only a Tick may decide that: after a
// stop of the whole process the end of the run may be the next event.
func (m *Machine) evaluateRun() {
	if m.event == kindTick.String() && m.runs.current != nil && m.now >= m.runs.current.at+m.runs.current.timeout+runSlack {
		m.loseRun("the runner never reported its end")
	}
}
