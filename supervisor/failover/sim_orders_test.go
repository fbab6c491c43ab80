package failover

import (
	"sync/atomic"
	"testing"
	"time"
)

// Tags of the orders whose replies the simulation follows.
const (
	tagPause = 11 + iota
	tagResume
	tagTrigger
)

// simOrders is what operators have asked of the machine, and what failback and retries need to be checked.
type simOrders struct {
	paused   bool
	trigger  *Trigger           // answered with success, its run not yet seen
	asked    map[uint64]Trigger // by tag: several may wait for their answers
	stood    []time.Duration    // since when each look has shown a streaming standby, -1 for no
	planned  bool               // a switchover was begun, its run not yet seen
	switched bool               // the last run was a planned one: its old primary stays in use
	open     bool               // clients write
	idle     bool               // the workers have said that no transaction runs, and nothing was opened since
	lsn      []uint64           // of the latest look at each server: written, or replayed
	notified map[string]int     // runs of the notify script by epoch
}

func (s *sim) drawOrders(n int) {
	s.cfg.NotifyRetries, s.cfg.Failback, s.cfg.Quarantine = s.r.IntN(3), Failback(s.r.IntN(2)), 15*time.Second
	s.order = simOrders{stood: make([]time.Duration, n), notified: map[string]int{}, lsn: make([]uint64, n), asked: map[uint64]Trigger{}}
	s.order.reboot()
}

func (o *simOrders) reboot() {
	o.trigger, o.planned, o.idle = nil, false, false
	for i := range o.stood {
		o.stood[i] = -1
	}
}

// looked notes how long a server has been seen as a standby that streams.
func (s *sim) looked(p ProbeDone) {
	o := &s.order
	o.lsn[p.Server] = max(p.Obs.WriteLSN, p.Obs.ReplayLSN)
	switch {
	case p.Outcome == SawAlive:
	case p.Outcome != SawStandby || p.Obs.Receiver != ReceiverStreaming:
		o.stood[p.Server] = -1
	case o.stood[p.Server] < 0:
		o.stood[p.Server] = s.now
	}
}

// giveOrder is an operator who pauses, resumes or triggers.
func (s *sim) giveOrder(i int) {
	o := &s.order
	s.cutting = -1
	switch s.r.IntN(4) {
	case 0:
		s.inject(Pause{Tag: tagPause})
	case 1, 2:
		o.paused = false
		s.inject(Resume{Tag: tagResume})
	case 3:
		t := Trigger{Tag: tagTrigger + uint64(len(o.asked)), Force: s.chance(50)}
		if s.chance(50) {
			t.To = s.cfg.Servers[i].Name
		}
		o.asked[t.Tag] = t
		s.inject(t)
	}
}

// anyCommand is an operator who asks for any one thing, whatever the machine is doing.
func (s *sim) anyCommand() {
	i := s.r.IntN(len(s.nodes))
	switch s.r.IntN(5) {
	case 0, 1:
		s.command(i)
	case 2, 3:
		s.giveOrder(i)
	case 4:
		s.inject(Rehearse{Tag: 4})
	}
}

// commandsTaken counts in all schedules which command came in which phase.
var commandsTaken [kinds][phases]atomic.Int64

func (s *sim) countCommand(ev Event) {
	switch k := kindOf(ev); k {
	case kindClearServer, kindSwitchTo, kindReset, kindPause, kindResume, kindTrigger, kindRehearse:
		commandsTaken[k][s.m.phase].Add(1)
	default:
	}
}

// checkCommandsTaken: a simulation in which a command never comes in some phase doesn't show that it may.
func checkCommandsTaken(t *testing.T) {
	for _, k := range []kind{kindClearServer, kindSwitchTo, kindReset, kindPause, kindResume, kindTrigger, kindRehearse} {
		for p := range phases {
			if commandsTaken[k][p].Load() == 0 {
				t.Errorf("no schedule had the command %v in the phase %v", k, Phase(p))
			}
		}
	}
}

func (s *sim) replied(a Reply) {
	s.note("reply %d %v %s", a.Tag, a.Err, a.Next)
	o := &s.order
	switch {
	case a.Err != nil:
	case a.Tag == tagPause:
		o.paused = true
	case a.Tag >= tagTrigger:
		t := o.asked[a.Tag]
		o.trigger = &t
	}
}

// quiesced is the workers' answer: now and then a transaction goes on for long.
func (s *sim) quiesced(a Quiesce) {
	busy := 0
	if s.chance(30) {
		busy = 1
	}
	s.order.planned = true
	s.send(s.upTo(300*time.Millisecond), Quiesced{Epoch: a.Epoch, Busy: busy})
}

// checkPromotion: a run of failover_script is a planned one, or for a dead primary.
func (s *sim) checkPromotion(a StartRun, old, next int) {
	s.order.switched = a.Env["PGAGROAL_PLANNED"] != ""
	if s.order.switched {
		s.checkPlanned(old, next)
		return
	}
	s.checkFailover(old, next)
}

// checkPlanned: pgagroal runs nothing on the old primary, and the standby has replayed what it has written.
func (s *sim) checkPlanned(old, next int) {
	o := &s.order
	switch {
	case !o.planned || !o.idle:
		s.fail("a planned run, and the workers were never idle")
	case s.opened.Open && s.fenced < s.opened.Epoch:
		s.fail("a planned run before epoch %d was fenced", s.opened.Epoch)
	case s.last[old] != SawPrimary || s.last[next] != SawStandby:
		s.fail("a planned run from %v to %v", s.last[old], s.last[next])
	case o.lsn[next] < o.lsn[old]:
		s.fail("a planned run, and the standby has replayed %d of %d", o.lsn[next], o.lsn[old])
	case s.gone[next]:
		s.fail("a planned run promotes a server that was replaced")
	}
	o.planned, o.idle = false, false
}

// overrules says that a run is right although the old primary has answered that.
func (o *simOrders) overrules(last Outcome) bool {
	return o.trigger != nil && (o.trigger.Force || last == SawStandby)
}

// checkPausedFence: while failover is paused nothing is fenced but by a command.
func (s *sim) checkPausedFence(a Fence) {
	if s.order.paused && a.Seq != s.asked.Seq && s.m.fence.aim != aimSwitch {
		s.fail("a fence although failover is paused")
	}
}

// checkOrderedRun: no run while failover is paused, and the notify script runs
// no more often than its retries allow, across crashes.
func (s *sim) checkOrderedRun(a StartRun) {
	o := &s.order
	if o.paused {
		s.fail("a run of %s although failover is paused", a.Hook)
	}
	if a.Hook == HookNotify {
		epoch := a.Env["PGAGROAL_EPOCH"]
		if o.notified[epoch]++; o.notified[epoch] > 1+s.cfg.NotifyRetries {
			s.fail("%d runs of the notify script in epoch %s, with %d retries", o.notified[epoch], epoch, s.cfg.NotifyRetries)
		}
	}
}

// checkOrders: an order is over when service resumes, and a replaced primary comes back as checkReturn says.
func (s *sim) checkOrders(p Snapshot) {
	o := &s.order
	o.open = p.Open
	if p.Open {
		o.trigger, o.planned, o.idle = nil, false, false
	}
	for i, v := range p.Servers {
		if v.State == Replica {
			s.checkReturn(i)
		}
	}
}

// checkReturn: a replaced primary is a Replica, in a snapshot or in a record that a crash may leave behind, only after
// its quarantine.
func (s *sim) checkReturn(i int) {
	if !s.gone[i] {
		return
	}
	name, stood := s.cfg.Servers[i].Name, s.order.stood[i]
	switch {
	case s.cfg.Failback != FailbackStandby:
		s.fail("%s was replaced and is a Replica without a command", name)
	case stood < 0 || s.now-stood < s.cfg.Quarantine:
		s.fail("%s was replaced and is a Replica before its quarantine is over", name)
	}
	s.gone[i] = false
}
