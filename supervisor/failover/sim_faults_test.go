package failover

import (
	"sync/atomic"
	"testing"
	"time"
)

// script decides how a run goes.
func (s *sim) script(a StartRun, old, next int) {
	takes := s.upTo(6 * time.Second)
	if a.Hook == HookFailover && (s.calm || s.chance(80)) {
		promoted := takes
		if s.chance(20) {
			promoted += s.upTo(12 * time.Second)
		}
		s.at(s.now+promoted, nil, func() { s.promote(next) })
	}
	if a.Hook == HookFence && s.chance(70) {
		s.at(s.now+takes/2, nil, func() { s.nodes[old].up = false })
	}
	if a.Env["PGAGROAL_PLANNED"] != "" && s.chance(60) {
		s.at(s.now+takes/2, nil, func() { s.nodes[old].primary = false })
	}
	end := RunEnded{RunID: a.RunID, Hook: a.Hook}
	if !s.calm && s.chance(25) {
		switch s.r.IntN(4) {
		case 0:
			end.Exit = 1
		case 1:
			end.Signal = 9
		case 2:
			end.TimedOut = true
		case 3:
			s.at(s.now+s.upTo(takes+1), RunLost{a.RunID}, nil)
		}
	}
	s.at(s.now+time.Millisecond, RunStarted{a.RunID}, nil)
	life := s.life
	s.at(s.now+takes, nil, func() {
		if s.active == nil || s.active.RunID != a.RunID {
			return
		}
		if a.Hook == HookFailover && s.alive && life == s.life && end.Exit == 0 && end.Signal == 0 && !end.TimedOut && s.m.runs.current != nil && s.cfg.Verify != VerifyStrict {
			s.success = &[2]int{old, next}
		}
		s.endRun(end)
	})
}

func (s *sim) endRun(end RunEnded) {
	s.active = nil
	if end.Hook != HookFence {
		s.order.trigger = nil
	}
	if !s.alive {
		return
	}
	s.at(s.now, end, nil)
	s.at(s.now, RunsAllowed{Allowed: true}, nil)
	s.groupEmpty()
}

func (s *sim) promote(i int) {
	n := s.nodes[i]
	if n.up && !n.primary {
		top := uint32(0)
		for _, o := range s.nodes {
			if o.system == n.system {
				top = max(top, o.timeline)
			}
		}
		n.primary, n.timeline = true, top+1
		s.note("  world: %d promoted to timeline %d", i, n.timeline)
	}
}

func (s *sim) probe(a Probe) {
	n := s.nodes[a.Server]
	d := ProbeDone{Server: a.Server, ID: a.ID, Started: s.now}
	after := time.Millisecond
	switch {
	case n.net == SawTimeout, n.net == SawSilent:
		d.Outcome, after = n.net, a.Timeout
	case n.net != 0:
		d.Outcome, d.Code = n.net, "53300"
	case !n.up:
		d.Outcome = SawRefused
	case s.now < n.starting:
		d.Outcome, d.Code = SawStarting, "57P03"
	case n.primary:
		if s.order.open || s.chance(2) { // clients write, and seldom somebody else
			n.lsn++
		}
		d.Outcome = SawPrimary
		d.Obs = Observation{SystemID: n.system, Timeline: n.timeline, WriteLSN: n.lsn}
	default:
		d.Outcome = SawStandby
		d.Obs = Observation{SystemID: n.system, Timeline: n.timeline, ReceiveLSN: n.lsn, ReplayLSN: n.lsn, Receiver: ReceiverGone}
		if s.follow(n) {
			d.Obs.Receiver, d.Obs.Timeline = ReceiverStreaming, n.timeline
			d.Obs.LastMsgKnown, d.Obs.LastMsgAge = s.chance(90), s.upTo(4*time.Second)
		}
	}
	s.send(after, d)
}

// follow has a standby stream from the highest primary that is up.
func (s *sim) follow(n *simNode) bool {
	var best *simNode
	for _, o := range s.nodes {
		if o.system == n.system && o.up && o.primary && (o.net == 0 || o.net == SawSilent) && (best == nil || o.timeline > best.timeline) {
			best = o
		}
	}
	if best == nil || best.timeline < n.timeline {
		return false
	}
	n.timeline, n.lsn = best.timeline, best.lsn
	return true
}

// fault is one thing that goes wrong, or gets better.
func (s *sim) fault() {
	i := s.r.IntN(len(s.nodes))
	if s.chance(40) {
		for j, n := range s.nodes {
			if n.primary && n.up {
				i = j
			}
		}
	}
	n := s.nodes[i]
	what := s.r.IntN(18)
	s.note("  world: fault %d on %d", what, i)
	switch what {
	case 0, 1, 2:
		n.up = false
	case 3, 4:
		n.up, n.starting = true, s.now+s.upTo(8*time.Second)
	case 5:
		n.net = []Outcome{SawTimeout, SawSilent}[s.r.IntN(2)]
	case 6:
		n.net = 0
	case 7:
		n.net = SawAlive
	case 8: // comes back as a standby of whoever is the primary
		n.up, n.primary, n.net = true, false, 0
		s.clone(i)
	case 9:
		s.saveFault()
	case 10:
		s.inject(RunnerDown{"gone"})
		s.at(s.now+s.upTo(20*time.Second), RunnerUp{}, nil)
	case 11:
		s.command(i)
	case 15: // somebody else promotes
		s.promote(i)
	case 16, 17:
		s.newSystem(i)
	case 13:
		s.login()
	case 14:
		s.giveOrder(i)
	case 12:
		if !s.crashes || !s.alive {
			return
		}
		s.crash()
		return
	}
	s.inject(Hinted{Server: s.r.IntN(len(s.nodes)), Epoch: s.epoch, Kind: "eof", Code: []string{"", "57P01"}[s.r.IntN(2)]})
}

// newSystem gives a server another system identifier: pg_upgrade keeps its role, initdb makes an empty primary of it.
func (s *sim) newSystem(i int) {
	n := s.nodes[i]
	s.systems++
	n.system, n.timeline, n.lsn = 7+s.systems, 1, 1
	if s.chance(60) {
		n.up, n.primary, n.starting = true, true, 0
	}
}

// clone makes a server that is no primary one of the system of the highest primary.
func (s *sim) clone(i int) {
	var best *simNode
	for j, o := range s.nodes {
		if j != i && o.up && o.primary && (best == nil || o.timeline > best.timeline) {
			best = o
		}
	}
	if n := s.nodes[i]; best != nil && n.system != best.system && s.chance(50) {
		n.system, n.timeline, n.lsn = best.system, best.timeline, best.lsn
	}
}

func (s *sim) saveFault() {
	if s.crashes {
		return
	}
	s.saveErr = errDisk
	s.at(s.now+s.upTo(10*time.Second), nil, func() { s.saveErr = nil })
}

func (s *sim) inject(ev Event) {
	if s.alive {
		s.step(ev)
	}
}

// command is an operator who may come at any time, sometimes with --force.
func (s *sim) command(i int) {
	if s.alive && s.m.phase != PhaseRunning {
		s.gone[i] = false // from here on the server may be used again
	}
	s.cutting = -1
	if s.chance(20) {
		s.inject(Reset{Tag: 3})
		s.began, s.locked = nil, false
		return
	}
	force := s.chance(20)
	if s.chance(50) {
		s.inject(ClearServer{Tag: 1, Name: s.cfg.Servers[i].Name, Force: force})
		return
	}
	s.inject(SwitchTo{Tag: 2, Name: s.cfg.Servers[i].Name, Force: force})
}

// login is a client's login on the open primary, which shows its role.
func (s *sim) login() {
	n := s.nodes[s.opened.Primary]
	if !s.opened.Open || !n.up || s.now < n.starting {
		return
	}
	hot := HotStandbyOn
	if n.primary {
		s.wrote[s.opened.Primary] = true
		hot = HotStandbyOff
	}
	s.inject(LoginSeen{Server: s.opened.Primary, Epoch: s.opened.Epoch, Hot: hot})
}

// heal ends every fault.
func (s *sim) heal() {
	s.note("  world: calm")
	s.calm, s.saveErr = true, nil
	for _, n := range s.nodes {
		n.up, n.net, n.starting = true, 0, 0
	}
	s.inject(RunnerUp{})
	s.order.paused = false
	s.inject(Resume{Tag: tagResume})
	s.notice()
	s.at(s.now+20*time.Second, nil, s.notice) // a supervisor that is just starting hears no clients
}

// notice is clients who use every server.
func (s *sim) notice() {
	for i := range s.nodes {
		s.inject(Hinted{Server: i, Epoch: s.epoch, Kind: "eof"})
	}
}

// identitiesSeen counts in all schedules in which phase the recorded primary, and in which another server, answered with
// another system identifier than before.
var identitiesSeen [2][phases]atomic.Int64

func (s *sim) countIdentity(server int) {
	which := 0
	if server != s.m.known.index {
		which = 1
	}
	identitiesSeen[which][s.m.phase].Add(1)
}

// checkIdentitiesSeen: facts of a phase or a hold may go with a server that is replaced, so that must come in each phase.
// A new machine has asked no server yet.
func checkIdentitiesSeen(t *testing.T) {
	for which, what := range []string{"the recorded primary", "another server"} {
		for p := PhaseStarting; p <= PhaseHeld; p++ {
			if identitiesSeen[which][p].Load() == 0 {
				t.Errorf("no schedule gave %s another identity in the phase %v", what, p)
			}
		}
	}
}
