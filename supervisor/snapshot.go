package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// A snapshot is everything that there is to show, for metrics and the web page. It is made
// when the console asks, because somebody looks; otherwise nothing is collected. The
// workers' figures go from link to link as they are: only those of a dead worker are
// decoded, and added to a base that every console gets, so that counters never fall.

const (
	// snapshotPause is the least time between two snapshots.
	snapshotPause = time.Second
	// statsLimit is how long workers have to send their figures. A worker that takes longer
	// is shown as it was before.
	statsLimit = 500 * time.Millisecond
	// maxStatsSize bounds the figures of one worker in bytes. What is beyond it isn't shown.
	maxStatsSize = 8 << 20
	// maxCounters is far more counters than a worker has.
	maxCounters = 1000
)

// stats are the figures of one worker, as it has sent them.
type stats struct {
	last  []ipc.Packed  // the last complete answer
	next  []ipc.Packed  // the answer that is arriving
	size  int           // of next
	sent  time.Duration // when the worker was asked
	took  time.Duration // to answer
	asked bool          // and has not answered yet
}

// snapshotItems is how many messages one snapshot may have.
func (s *supervisor) snapshotItems() int {
	c := s.cfg
	parts := ipc.MaxParts(c.Slots(), c.MaxPools, c.MaxConnections)
	return len(c.Servers) + len(c.Limits) + (max(len(s.workers.slots), 2*c.EffectiveWorkers())+1)*(parts+1) + s.pageItems() + 8
}

func (s *supervisor) onSnapshotRequest(p *aideEnd, m *ipc.SnapshotRequest) {
	if s.console.asked != nil {
		s.aideBroke(p, "it asks for a snapshot before it has got the last one")
		return
	}
	s.console.asked = m
	s.console.figures.logged.add(&p.logged, m.Logged)
	s.after(max(s.console.began+snapshotPause-s.env.now(), 0), func() { s.beginSnapshot(p, m) })
}

// beginSnapshot sends what this process knows by itself, and then asks for what takes a
// moment: the use of processor and memory, and the figures of the workers.
func (s *supervisor) beginSnapshot(p *aideEnd, m *ipc.SnapshotRequest) {
	if !p.up {
		return
	}
	s.console.began = s.env.now()
	s.sendAide(p, s.snapshotBegin(m.ID))
	who := s.processes()
	elsewhere(s, func() ([]processUse, error) { return s.env.usage(who) }, func(seen []processUse, err error) {
		if err != nil {
			s.log.Debug("the use of processor and memory can't be read", "error", err)
		}
		s.console.usage.note(seen)
		s.askStats(m, func() { s.finishSnapshot(p, m) })
	})
}

// askStats asks the workers for their figures.
func (s *supervisor) askStats(m *ipc.SnapshotRequest, done func()) {
	r := s.newRound(statsLimit, func() {
		s.console.round = nil
		done()
		waiting := s.console.clear
		s.console.clear = nil
		for _, f := range waiting {
			f()
		}
	})
	s.console.round = r
	all := s.everyReady()
	for _, c := range all {
		c.stats.next, c.stats.size, c.stats.sent, c.stats.asked = nil, 0, s.env.now(), true
	}
	s.ask(r, all, &ipc.StatsRequest{ID: r.id, Sessions: m.Sessions})
}

func (s *supervisor) onStats(c *child, m *ipc.Stats) {
	if r := s.console.round; !r.awaits(c) || m.ID != r.id {
		return // too late
	}
	x := &c.stats
	if len(x.next) >= s.snapshotItems() || x.size+len(m.Part) > maxStatsSize {
		return // the lists come last: so many pools can't be shown
	}
	x.size += len(m.Part)
	x.next = append(x.next, m.Part)
}

func (s *supervisor) onStatsEnd(c *child, m *ipc.StatsEnd) {
	if r := s.console.round; !r.awaits(c) || m.ID != r.id {
		return
	}
	c.stats.last, c.stats.next, c.stats.took, c.stats.asked = c.stats.next, nil, s.env.now()-c.stats.sent, false
	s.answered(s.console.round, c)
}

// keepStats adds the last figures of a dead worker to the base.
func (s *supervisor) keepStats(c *child) {
	var all ipc.WorkerStats
	for _, part := range c.stats.last {
		var w ipc.WorkerStats
		if err := part.Unpack(&w); err != nil {
			s.log.Warn("figures of a dead worker are lost", "worker", c.index, "error", err)
			return
		}
		w.Bound(s.cfg.Slots())
		if len(w.Counters) > maxCounters {
			w.Counters = nil
		}
		all.Add(&w)
	}
	if len(s.console.base.Counters)+len(all.Counters) > 2*maxCounters {
		all.Counters = nil // a worker that was taken over has made up names
	}
	s.console.base.Add(&all)
}

// finishSnapshot sends the items and the end.
func (s *supervisor) finishSnapshot(p *aideEnd, m *ipc.SnapshotRequest) {
	if !p.up || s.console.asked != m {
		return
	}
	items := 0
	send := func(item ipc.Message) {
		items++
		s.sendAide(p, item)
	}
	st := s.servers.machine.Status(s.env.now())
	for i := range st.Each() {
		send(s.snapshotServer(m.ID, st, i))
	}
	s.snapshotLimits(m.ID, send)
	s.snapshotProcesses(m.ID, send)
	s.snapshotStats(m.ID, send)
	if m.Page {
		s.snapshotPage(m, st, send)
	}
	s.console.asked = nil
	s.sendAide(p, &ipc.SnapshotEnd{ID: m.ID, Items: items})
}

func (s *supervisor) snapshotStats(id uint64, send func(ipc.Message)) {
	for _, part := range s.console.base.Split() {
		packed, err := ipc.Pack(&part)
		if err != nil {
			s.log.Error("the figures of dead workers can't be sent", "error", err)
			break
		}
		send(&ipc.SnapshotStats{ID: id, Worker: -1, Part: packed})
	}
	for _, sl := range s.workers.slots {
		if sl.child == nil {
			continue
		}
		for _, part := range sl.child.stats.last {
			send(&ipc.SnapshotStats{ID: id, Worker: sl.child.index, Part: part})
		}
	}
}

func (s *supervisor) snapshotBegin(id uint64) *ipc.SnapshotBegin {
	st := s.servers.machine.Status(s.env.now())
	counts := s.ledger.Counts()
	confined := s.confinement()
	why := s.notReady(st)
	return &ipc.SnapshotBegin{
		ID: id, Ending: s.stop.mode != stopNot, Pipeline: pipelineNumbers[s.cfg.ResolvedPipeline()],
		ResetOnFailure: resetNumbers[s.cfg.ServerResetQueryBehaviorOnFailure], MaxConnections: s.cfg.MaxConnections,
		Writable: why == "", Reason: why, Failover: s.failoverFacts(st),
		Leases:   ipc.LeaseFacts{Used: counts.Total, Orphans: counts.Orphans, Waiting: counts.Waiting, Unproven: counts.Unproven},
		Confined: confined.InForce, Lacking: confined.Lacking, Logged: s.linesLogged(),
		Clients: s.clients.total, Unplaced: len(s.clients.waiting), StateDir: s.dir.Usable && s.saver.failed == nil,
	}
}

// linesLogged are the lines in the log of all processes but the workers, by level.
func (s *supervisor) linesLogged() []uint64 {
	lines := logline.Lines(s.log)
	for i, n := range s.console.figures.logged {
		lines[i] += n
	}
	return lines
}

// notReady returns why a client that connects now could not write, "" if it could. Where
// probes can't log in, only a login shows whether the primary is writable; if no client had to
// come before pgagroal is ready, none would ever come.
func (s *supervisor) notReady(st failover.Status) string {
	if st.Primary >= 0 && st.Open && !st.Held && s.stop.mode == stopNot {
		p := st.Servers[st.Primary]
		if _, running, _ := seen(p); p.State == failover.NotInitPrimary && running == control.ServerRunning {
			return ""
		}
	}
	return s.notWritable(st)
}

// The numbers that C pgagroal gives to words of its configuration.
var (
	pipelineNumbers = map[string]int{config.PipelinePerformance: 0, config.PipelineSession: 1, config.PipelineTransaction: 2}
	resetNumbers    = map[string]int{"discard": 0, "ignore": 1, "try": 2}
)

func (s *supervisor) failoverFacts(st failover.Status) ipc.FailoverFacts {
	f := &s.console.figures
	facts := ipc.FailoverFacts{
		Enabled: st.Enabled, Paused: st.Paused, Phase: st.Phase, Phases: failover.Phases(), Epoch: st.Epoch, Timeline: st.Timeline,
		Held: st.Held, HeldMS: st.HeldFor.Milliseconds(), Runs: f.allRuns(), Fenced: f.fenced, PhaseMS: map[string]int64{}, Changes: f.changes,
	}
	for phase, d := range f.phases {
		facts.PhaseMS[phase] = d.Milliseconds()
	}
	if f.lasted != nil {
		facts.LastMS = map[string]int64{}
	}
	for phase, d := range f.lasted {
		facts.LastMS[phase] = d.Milliseconds()
	}
	if f.phase != "" {
		facts.PhaseMS[f.phase] += (s.env.now() - f.entered).Milliseconds()
	}
	for _, a := range st.Alarms {
		facts.Alarms = append(facts.Alarms, a.Name)
	}
	if !f.last.IsZero() {
		facts.Last = f.last.Unix()
	}
	r := s.runnerStatus()
	facts.Problems = s.failoverProblems(st)
	facts.RunnerWanted, facts.RunnerThere, facts.RunnerAgrees, facts.RunnerService = runsScripts(s.cfg), r.Connected, r.DigestMatch, r.Socket != ""
	return facts
}

// failoverProblems counts what a rehearsal would find wrong, as far as it is known without
// asking anybody.
func (s *supervisor) failoverProblems(st failover.Status) int {
	if !st.Enabled {
		return 0
	}
	r := &rehearsal{Rehearsal: s.servers.machine.Outlook()}
	s.findRunner(r)
	n := 0
	for _, f := range r.Findings {
		if f.Grave {
			n++
		}
	}
	return n
}

func (s *supervisor) snapshotServer(id uint64, st failover.Status, i int) *ipc.SnapshotServer {
	sv := st.Servers[i]
	health, _, _ := seen(sv)
	m := &ipc.SnapshotServer{
		ID: id, Index: i, Name: sv.Name, State: sv.State.String(), Qualifier: sv.Qualifier.String(), Health: health,
		Auth: s.authOf(i), Major: majorVersion(s.servers.versions[i]), Seen: sv.Seen, SeenMS: -1,
		Timeline: sv.Timeline, LSN: sv.LSN, Lag: -1, LagMS: -1, Receiver: -1, Failures: sv.Failures,
	}
	if sv.Seen != "" {
		m.SeenMS = sv.SeenAge.Milliseconds()
	}
	if b := behind(st, i); b != nil {
		m.Lag = *b
		if lag := s.console.figures.lag(i); lag >= 0 {
			m.LagMS = lag.Milliseconds()
			if *b == 0 {
				m.LagMS = 0
			}
		}
	}
	if sv.Standby != nil {
		m.Receiver = 0
		if sv.Standby.Streaming {
			m.Receiver = 1
		}
	}
	if f := &s.console.figures; i < len(f.servers) {
		m.Probes, m.ProbeUS = f.servers[i].probes, uint64(f.servers[i].took.Microseconds())
	}
	return m
}

// authOf is how a server lets users in, as far as it is known.
func (s *supervisor) authOf(server int) string {
	if s.servers.noPass[server] != nil {
		return "trust"
	}
	return "unknown"
}

func (s *supervisor) snapshotLimits(id uint64, send func(ipc.Message)) {
	rules := s.ledger.Counts().Rules
	for i, l := range s.cfg.Limits {
		m := &ipc.SnapshotLimit{
			ID: id, User: l.User.String(), Database: l.Database.String(), Min: l.MinSize, Initial: l.InitialSize, Max: l.MaxSize,
		}
		if i < len(rules) {
			m.Used, m.Waiting = rules[i].Used, rules[i].Waiting
		}
		send(m)
	}
}

// clearFigures sets all counters back to zero, those of dead workers included. What describes the present
// stays. Figures of the workers that are on their way come first, so that they can't come back.
func (s *supervisor) clearFigures(done func()) {
	if s.console.round != nil {
		s.console.clear = append(s.console.clear, func() { s.clearFigures(done) })
		return
	}
	s.ready(func(c *child) { s.send(c, &ipc.StatsClear{}) })
	for _, sl := range s.workers.slots {
		if sl.child != nil {
			sl.child.stats.last = nil
		}
	}
	s.console.base = ipc.WorkerStats{}
	s.console.figures.clear(s.env.now())
	logline.ClearLines(s.log)
	done()
}
