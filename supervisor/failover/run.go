package failover

import (
	"fmt"
	"maps"
	"strconv"
	"time"
)

// run is one execution of one hook that is under way.
type run struct {
	id      string
	hook    string
	old     int
	next    int
	args    []string
	at      time.Duration
	timeout time.Duration
	reason  string
	stop    bool     // StopRun was sent
	order   *trigger // of a fence: what it is made for
}

// ended is the run, or the lack of one, that a hold is about: rule 8 asks for its candidate.
type ended struct {
	hold hold
	id   string
	old  int
	next int // -1: no run started
	why  string
	// planned: the old primary worked, so rule 8 acts whatever failover_settle says.
	planned bool
}

// runBlocked says why no run can start now, "" when one can. A lock shared by several poolers would be asked for here.
func (m *Machine) runBlocked() string {
	switch {
	case !m.cfg.Enabled:
		return "failover is off"
	case m.cfg.Follow:
		return "failover_mode is follow"
	case m.stopping:
		return "the pooler is stopping"
	case m.paused:
		return "failover is paused"
	case m.run != nil:
		return "run " + m.run.id + " has not ended"
	case m.blocker != "":
		return "processes of run " + m.blocker + " may still be there"
	case !m.runsAllowed:
		return "children of an earlier supervisor hold state_dir"
	case !m.runner:
		return "the script runner is not available: " + m.runnerWhy
	}
	return ""
}

// tryRun starts the failover script for a candidate, or waits for what is in the way and says so in time.
func (m *Machine) tryRun(next int) {
	if !m.cut && m.lockedOut() {
		return
	}
	blocked := m.runBlocked()
	if m.run != nil && m.run.hook == HookNotify && !m.run.stop {
		m.run.stop = true
		m.later(StopRun{RunID: m.run.id, Why: "its new primary is dead"})
	}
	if blocked != "" {
		m.reason = blocked
		if m.now >= m.since+m.cfg.RunnerWait {
			m.raise("run_blocked", "a failover is due but can't be run: "+blocked)
		}
		return
	}
	m.clear("run_blocked")
	m.reason = ""
	if m.cfg.FenceScript && !m.cut {
		m.cutOff(next)
		return
	}
	old := m.primary
	if !m.cut {
		m.countAttempt()
	}
	m.startRun(HookFailover, old, next, m.hostPorts(old, next), m.cfg.ScriptTimeout, m.why)
	m.become(next, m.servers[next].state, m.servers[next].qual, "candidate of run "+m.run.id)
	m.enter(PhaseRunning, "run "+m.run.id+" promotes "+m.nameOf(next))
}

func (m *Machine) hostPorts(indexes ...int) []string {
	var out []string
	for _, i := range indexes {
		out = append(out, m.servers[i].cfg.Host, m.servers[i].cfg.Port)
	}
	return out
}

// startRun orders a hook; its id is unique across restarts, and the record is durable before it reaches the runner.
func (m *Machine) startRun(hook string, old, next int, args []string, timeout time.Duration, reason string) {
	m.runCount++
	id := fmt.Sprintf("%x-%d-%d", m.wall.UnixNano(), m.epoch, m.runCount)
	m.run = &run{id: id, hook: hook, old: old, next: next, args: args, at: m.now, timeout: timeout, reason: reason}
	m.changes++
	m.log(Debug, "run", Attr{"hook", hook}, Attr{"run", id}, Attr{"old", m.nameOf(old)}, Attr{"new", m.nameOf(next)}, Attr{"why", reason})
	m.later(StartRun{RunID: id, Hook: hook, Args: append([]string(nil), args...), Env: m.runEnv(m.run), Timeout: timeout})
}

func (m *Machine) runEnv(r *run) map[string]string {
	env := map[string]string{
		"PGAGROAL_RUN_ID":   r.id,
		"PGAGROAL_HOOK":     r.hook,
		"PGAGROAL_EPOCH":    strconv.FormatUint(m.epoch, 10),
		"PGAGROAL_REASON":   r.reason,
		"PGAGROAL_OLD_NAME": m.nameOf(r.old),
		"PGAGROAL_NEW_NAME": m.nameOf(r.next),
		"PGAGROAL_TIMELINE": strconv.FormatUint(uint64(m.timeline), 10),
	}
	if m.plan != nil && m.plan.stage == planRunning && r.hook == HookFailover {
		maps.Copy(env, map[string]string{"PGAGROAL_PLANNED": "on"})
	}
	if m.lsn != 0 {
		maps.Copy(env, map[string]string{
			"PGAGROAL_LSN":     lsnText(m.lsn),
			"PGAGROAL_LSN_AGE": strconv.FormatFloat(m.lsnAge().Seconds(), 'f', 1, 64),
		})
	}
	return env
}

func (m *Machine) onRunStarted(ev RunStarted) {
	if m.run != nil && m.run.id == ev.RunID {
		m.log(Debug, "the script runs", Attr{"run", ev.RunID})
	}
}

// onRunEnded takes the end of the current run; that of a lost one only says that nothing of it is left.
func (m *Machine) onRunEnded(ev RunEnded) {
	if m.run == nil || m.run.id != ev.RunID {
		if m.blocker == ev.RunID && ev.RunID != "" {
			m.onRunGroupEmpty(RunGroupEmpty{ev.RunID})
		}
		return
	}
	r := m.run
	m.run = nil
	m.changes++
	m.rememberRun(r, ev)
	switch r.hook {
	case HookNotify:
		m.notifyEnded(r, ev)
		return
	case HookFence:
		m.fenceEnded(r, ev)
		return
	}
	switch {
	case ev.Refused != "":
		m.runFailed(r, holdRefused, "the run was refused, nothing ran: "+ev.Refused)
	case ev.TimedOut:
		m.runFailed(r, holdFailed, "failover_script took longer than "+short(r.timeout))
	case ev.Signal != 0:
		m.runFailed(r, holdFailed, fmt.Sprintf("failover_script was ended by signal %d", ev.Signal))
	case ev.Exit != 0:
		m.runFailed(r, holdFailed, fmt.Sprintf("failover_script ended with exit code %d", ev.Exit))
	default:
		m.runSucceeded(r)
	}
}

// runFailed records the old and, when something ran, the new server as Failed and leaves epoch and primary alone.
func (m *Machine) runFailed(r *run, h hold, why string) {
	m.log(Error, "failover failed", Attr{"run", r.id}, Attr{"old", m.nameOf(r.old)}, Attr{"new", m.nameOf(r.next)}, Attr{"why", why})
	m.become(r.old, Failed, Plain, why)
	m.last = &ended{hold: h, id: r.id, old: r.old, next: r.next, why: why, planned: m.plan != nil}
	if m.plan != nil {
		m.plan.why = why
	}
	if h == holdRefused || r.hook == HookFence {
		m.last.next = -1
	} else {
		m.become(r.next, Failed, Plain, why)
	}
	m.holdOn(h, why)
}

// onRunLost: the outcome is unknown, and no other run starts until the process group was seen empty.
func (m *Machine) onRunLost(ev RunLost) {
	if m.run == nil || m.run.id != ev.RunID {
		return
	}
	m.loseRun("the link to the script runner broke, the outcome is unknown")
}

func (m *Machine) loseRun(why string) {
	r := m.run
	m.run, m.blocker = nil, r.id
	m.changes++
	m.log(Error, "run lost", Attr{"run", r.id}, Attr{"hook", r.hook}, Attr{"why", why})
	m.remember(HistoryEntry{Kind: r.hook, Reason: r.reason, Result: "unknown: " + why, RunID: r.id, Hook: r.hook, Args: r.args, Old: m.nameOf(r.old), New: m.nameOf(r.next)})
	if r.hook == HookNotify {
		m.raise("notify", "the outcome of the notify script is unknown: "+why)
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
	if m.blocker != ev.RunID || ev.RunID == "" {
		return
	}
	m.log(Info, "nothing is left of the lost run", Attr{"run", ev.RunID})
	m.blocker = ""
	m.changes++
	if m.phase == PhaseHeld {
		m.since = m.now // what is decided from here on rests on probes made after the end of the run
	}
}

func (m *Machine) onRunnerUp(RunnerUp) {
	m.runner, m.runnerWhy = true, ""
	m.clear("runner")
	m.changes++
}

func (m *Machine) onRunnerDown(ev RunnerDown) {
	m.runner, m.runnerWhy = false, ev.Reason
	if m.cfg.Enabled {
		m.raise("runner", "the script runner is not available: "+ev.Reason)
	}
	m.changes++
}

func (m *Machine) onRunsAllowed(ev RunsAllowed) {
	m.runsAllowed = ev.Allowed
	m.changes++
}

// evaluateRun gives a run up whose end was never told, long after its time-out.
func (m *Machine) evaluateRun() {
	if m.run != nil && m.now >= m.run.at+m.run.timeout+runSlack {
		m.loseRun("the runner never told how it ended")
	}
}
