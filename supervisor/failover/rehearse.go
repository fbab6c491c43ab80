package failover

import (
	"fmt"
	"strconv"
	"time"
)

// Rehearsal is what would happen if the primary died now, with the problems that would come up. Nothing is fenced and
// nothing runs.
type Rehearsal struct {
	Primary    string    // server names; empty when there is none
	Next       string    // the server that would be promoted
	Runs       []Planned // in order
	Candidates []Verdict
	Findings   []Finding
}

// Planned is a run that a failover would start.
type Planned struct {
	Hook string
	Args []string
	Env  map[string]string // as for a real run
}

// Finding is something that an operator should know before a failover.
type Finding struct {
	Server string // "" if it concerns no particular server
	Text   string
	Hint   string // what to do, "" when Text says it
	Grave  bool   // a failover would go wrong, or would not happen when it must
}

// lagWorthSaying is how many bytes a candidate may be behind without a finding when failover_max_lag is unset.
const lagWorthSaying = 16 << 20

func (m *Machine) refuseRehearse(ev Rehearse) { m.reply(ev.Tag, m.refusal()) }

func (m *Machine) onRehearse(ev Rehearse) { m.queueFor(command{verb: verbRehearse, tag: ev.Tag}) }

// rehearse answers the command with what its probes would lead to.
func (m *Machine) rehearse(c command) {
	m.later(Reply{Tag: c.tag, Rehearsal: m.rehearsal(c.at)})
	m.changed()
}

// Outlook is a Rehearsal without new probes: it takes the latest probe of each server, however old. It asks nobody.
func (m *Machine) Outlook() *Rehearsal { return m.rehearsal(0) }

// rehearsal takes probes that began at since or later.
func (m *Machine) rehearsal(since time.Duration) *Rehearsal {
	r := &Rehearsal{Primary: m.nameOf(m.known.index)}
	m.findGeneral(r)
	m.findServers(r, since)
	m.rehearseChoice(r, since)
	return r
}

func (r *Rehearsal) grave(server, hint, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{server, fmt.Sprintf(format, args...), hint, true})
}

func (r *Rehearsal) warn(server, hint, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{server, fmt.Sprintf(format, args...), hint, false})
}

// findGeneral checks what is the same for every server.
func (m *Machine) findGeneral(r *Rehearsal) {
	switch blocked := m.runBlocked(); {
	case m.pausing():
		what, command := m.whatPauses()
		r.grave("", command, "%s", what)
	case m.runs.current != nil && m.runs.current.hook == HookNotify:
		r.warn("", "", "the notify script is running; a failover ends it first")
	case blocked != "" && !m.cfg.Follow: // in that mode no script is meant to run
		r.grave("", "", "no script can run now: %s", blocked)
	}
	if m.lockReached() {
		r.grave("", "pgagroal-cli failover reset", "%s", m.lockText())
	}
	switch {
	case m.phase != PhaseOpen:
		r.grave("", "pgagroal-cli failover status", "the failover is %s: %s", m.phase, m.Status(m.now).Reason)
	case !m.known.seenWritable:
		r.grave("", "", "the primary was never seen writable, so nothing would be promoted in its place")
	}
	if !m.cfg.HealthCheck {
		r.warn("", "health_check = on", "without health checks a death is noticed only when a client needs the primary")
	}
	if m.count() == 2 && !m.cfg.FenceScript {
		r.warn("", "set failover_fence_script, or add a standby", "with two servers a silent primary can't be told from a partition of the network")
	}
	if !m.cfg.NotifyConfigured && m.count() > 2 {
		r.warn("", "set failover_notify_script", "nobody would tell the other standbys to follow the new primary")
	}
}

// findServers checks each server by its latest probe.
func (m *Machine) findServers(r *Rehearsal, since time.Duration) {
	for i, s := range m.each() {
		name := s.cfg.Name
		switch {
		case m.alias(i):
			r.warn(name, "delete one of the two sections", "%s", m.aliasText(i))
		case !s.fresh(since):
			r.grave(name, "", "it didn't answer in time")
		case s.last == SawAlive:
			r.grave(name, m.loginHint(s, s.code), "it answers, but a probe can't log in (%s), so that role, LSN and timeline stay unknown", s.code)
		case s.last != SawPrimary && s.last != SawStandby:
			r.grave(name, "", "not reachable: %s", s.seen())
		case i == m.known.index && s.last != SawPrimary:
			r.grave(name, "", "the primary is in recovery")
		case i == m.known.index && s.obs.WriteLSN == 0:
			r.grave(name, "", "its LSN can't be read")
		case i != m.known.index:
			m.findStandby(r, s)
		}
	}
}

func (m *Machine) findStandby(r *Rehearsal, s *server) {
	name, ended := s.cfg.Name, m.serverStatus(m.indexOf(s.cfg.Name), m.now).Command
	switch {
	case m.foreign(s):
		r.warn(name, "", "another system identifier than the primary's: promoted only after all others")
	case s.last == SawPrimary:
		r.grave(name, "stop it, and rebuild it as a standby", "writable beside the primary")
	case s.state == Failed:
		r.grave(name, ended, "Failed: %s", s.reason)
	case s.obs.Receiver == ReceiverUnknown:
		r.grave(name, m.monitorHint(), "whether it receives can't be seen, so a silent primary would never be given up")
	case s.obs.Receiver == ReceiverGone:
		r.grave(name, "", "it isn't streaming")
	case m.known.timeline != 0 && s.timeline < m.known.timeline:
		r.grave(name, "", "it is on timeline %d, the primary on %d", s.timeline, m.known.timeline)
	}
	if s.last == SawStandby && s.obs.Paused {
		r.warn(name, "SELECT pg_wal_replay_resume()", "its replay is paused or delayed")
	}
	if behind := m.behind(s); behind > lagWorthSaying && m.cfg.MaxLag == 0 {
		r.warn(name, "failover_max_lag bounds it", "it lacks %d bytes, which a failover would lose", behind)
	}
}

// behind returns how many bytes a standby is behind the last LSN seen on the primary.
func (m *Machine) behind(s *server) uint64 {
	if m.known.lsn <= s.lsn() {
		return 0
	}
	return m.known.lsn - s.lsn()
}

// rehearseChoice chooses as if the primary had just died, and lists the scripts that would run.
func (m *Machine) rehearseChoice(r *Rehearsal, since time.Duration) {
	if m.known.index < 0 {
		r.grave("", "", "there is no primary")
		return
	}
	entrants := m.entrants()
	for i := range entrants {
		entrants[i].fresh = m.servers[entrants[i].index].fresh(since)
	}
	t := m.terms()
	t.lsnKnown = m.known.lsn != 0
	order, verdicts := rank(t, entrants)
	r.Candidates = verdicts
	if len(order) == 0 {
		r.grave("", "", "no server can be promoted: %s", verdictText(verdicts))
		return
	}
	next := order[0].index
	r.Next = m.nameOf(next)
	if m.cfg.Follow {
		return
	}
	plan := func(hook string, args []string) {
		r.Runs = append(r.Runs, Planned{Hook: hook, Args: args, Env: m.rehearsedEnv(hook, next)})
	}
	if m.cfg.FenceScript {
		plan(HookFence, m.hostPorts(m.known.index))
	}
	plan(HookFailover, m.hostPorts(m.known.index, next))
	if m.cfg.NotifyConfigured {
		plan(HookNotify, m.notifyArgs(m.known.index, next))
	}
}

// rehearsedEnv is what a script would get if the primary had died.
func (m *Machine) rehearsedEnv(hook string, next int) map[string]string {
	env := m.runEnv(&run{hook: hook, old: m.known.index, next: next, reason: "rehearsal"})
	delete(env, "PGAGROAL_OLD_ALIVE")
	delete(env, "PGAGROAL_PLANNED")
	if hook == HookNotify {
		env["PGAGROAL_EPOCH"] = strconv.FormatUint(m.epoch+1, 10)
	}
	return env
}
