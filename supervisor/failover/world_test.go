package failover

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// node is a PostgreSQL server of the model world.
type node struct {
	outcome  Outcome
	code     string
	words    string
	system   uint64
	timeline uint32
	lsn      uint64
	start    int64  // of its postmaster, 0 unknown
	ckpt     uint64 // its latest checkpoint
	receiver Receiver
	sender   string
	sync     []string
	syncWait bool
	paused   bool
	msg      time.Duration // age of the last message that it received, 0 unknown
	msgAt    time.Duration // or when that was, and none came since
	writes   bool          // its LSN grows with every look
	timeout  time.Duration // wal_receiver_timeout
	mute     bool          // probes get no answer at all
	takes    time.Duration // how long its answers take, 0 a millisecond
	quietAt  time.Duration // last byte any worker had from it
	neverHad bool
	bytes    bool // workers receive from it all the time, whatever probes see
}

// script is what the model runner does with a hook.
type script struct {
	manual  bool
	end     RunEnded
	after   time.Duration
	promote bool
	demote  bool // the old primary follows the new one
	lost    bool
}

// world drives a Machine: it executes actions and answers them.
type world struct {
	cfg     Config
	m       *Machine
	now     time.Duration
	nodes   []*node
	queue   queue
	seq     int
	out     []string
	saved   *Record
	saveErr error
	noFence bool
	noByte  bool
	busy    int // sessions in a transaction
	hooks   map[string]script
	runs    []StartRun
	onAct   func(Action) bool // false stops executing: the supervisor has died
	life    int
	verbose bool
}

type item struct {
	at   time.Duration
	seq  int
	life int
	ev   Event
	do   func()
}

type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func newWorld(cfg Config, nodes []*node) *world {
	return &world{cfg: cfg, nodes: nodes, hooks: map[string]script{HookFailover: {promote: true, after: 500 * time.Millisecond}, HookNotify: {after: time.Second}, HookFence: {after: 300 * time.Millisecond}}}
}

// start brings up a supervisor from the last saved record.
func (w *world) start() {
	w.life++
	var r *Record
	if w.saved != nil {
		b, err := EncodeRecord(*w.saved)
		if err == nil {
			r, err = DecodeRecord(b)
		}
		if err != nil {
			panic(err)
		}
	}
	w.m = New(w.cfg, r, w.now)
	w.step(RunnerUp{})
	w.step(RunsAllowed{Allowed: true})
	w.step(Started{Wall: time.Unix(1000, 0).Add(w.now)})
}

func (w *world) push(after time.Duration, ev Event) { w.at(w.now+after, ev, nil) }

func (w *world) at(at time.Duration, ev Event, do func()) {
	w.seq++
	heap.Push(&w.queue, item{at, w.seq, w.life, ev, do})
}

func (w *world) step(ev Event) {
	for _, a := range w.m.Step(w.now, ev) {
		if w.onAct != nil && !w.onAct(a) {
			return
		}
		w.execute(a)
	}
}

// run lets time pass until the given moment.
func (w *world) run(until time.Duration) {
	for n := 0; ; n++ {
		if n > 200000 {
			panic("the world does not come to rest")
		}
		next, tick := until, false
		if d, ok := w.m.Deadline(); ok && d <= next {
			next, tick = max(d, w.now), true
		}
		if len(w.queue) > 0 && w.queue[0].at <= next {
			it := heap.Pop(&w.queue).(item)
			w.now = max(w.now, it.at)
			if it.do != nil {
				it.do()
			}
			if it.ev != nil && it.life == w.life {
				w.step(it.ev)
			}
			continue
		}
		w.now = next
		if !tick {
			return
		}
		w.step(Tick{})
		if d, ok := w.m.Deadline(); ok && d <= w.now {
			panic(fmt.Sprintf("a Tick at %v left the deadline at %v in phase %v", w.now, d, w.m.phase))
		}
	}
}

func (w *world) execute(a Action) {
	switch a := a.(type) {
	case Probe:
		w.probe(a)
		if w.verbose {
			w.print("probe %s", w.name(a.Server))
		}
	case AskActivity:
		n := w.nodes[a.Server]
		if !w.noByte {
			w.push(time.Millisecond, Activity{Server: a.Server, Never: n.neverHad, Age: n.byteAge(w.now)})
		}
	case Save:
		if w.saveErr == nil {
			r := a.Record
			w.saved = &r
		}
		w.print("save %s", recordText(a.Record))
		w.push(0, SaveDone{a.Seq, w.saveErr})
	case Publish:
		w.print("publish %s", snapshotText(a.Snapshot))
	case Fence:
		w.print("fence epoch=%d seq=%d", a.Epoch, a.Seq)
		if !w.noFence {
			w.push(10*time.Millisecond, Fenced(a))
		}
	case Quiesce:
		w.push(5*time.Millisecond, Quiesced{a.Epoch, w.busy})
	case StartRun:
		w.print("run %s %s timeout=%v %s", a.Hook, strings.Join(a.Args, " "), a.Timeout, envText(a.Env))
		w.runs = append(w.runs, a)
		w.runScript(a)
	case StopRun:
		w.print("stop run: %s", a.Why)
		w.push(5*time.Millisecond, RunEnded{RunID: a.RunID, Hook: HookNotify, Signal: 15})
	case Reply:
		if w.print("reply %d: %v", a.Tag, a.Err); a.Next != "" {
			w.print("reply %d next: %s", a.Tag, a.Next)
		}
		if a.Rehearsal != nil {
			w.printRehearsal(a.Rehearsal)
		}
	case Log:
		if a.Level > Debug {
			w.print("log %s", logText(a))
		}
	case History:
		w.print("history %s", historyText(a.Entry))
	}
}

func (w *world) printRehearsal(r *Rehearsal) {
	w.print("rehearsal from %s to %s", r.Primary, r.Next)
	for _, x := range r.Runs {
		w.print("rehearsal run %s %s", x.Hook, strings.Join(x.Args, " "))
	}
	for _, v := range r.Candidates {
		w.print("rehearsal candidate %s tl=%d lsn=%s %s", v.Name, v.Timeline, v.LSN, v.Verdict)
	}
	for _, f := range r.Findings {
		w.print("rehearsal grave=%v %s: %s (%s)", f.Grave, f.Server, f.Text, f.Hint)
	}
}

func (w *world) runScript(a StartRun) {
	s := w.hooks[a.Hook]
	if s.manual {
		return
	}
	if s.end.Refused == "" {
		w.push(time.Millisecond, RunStarted{a.RunID})
	}
	next := w.index(a.Env["PGAGROAL_NEW_NAME"])
	end := s.end
	end.RunID, end.Hook = a.RunID, a.Hook
	var ev Event = end
	if s.lost {
		ev = RunLost{a.RunID}
	}
	w.at(w.now+s.after, ev, func() {
		if n := w.nodes[next]; a.Hook == HookFailover && s.promote && n.outcome == SawStandby {
			n.outcome, n.timeline = SawPrimary, n.timeline+1
			for i, o := range w.nodes {
				if i != next && o.outcome == SawStandby {
					o.receiver = ReceiverGone
				}
			}
		}
		if old := w.index(a.Env["PGAGROAL_OLD_NAME"]); a.Hook == HookFailover && s.demote {
			w.nodes[old].outcome, w.nodes[old].timeline, w.nodes[old].receiver = SawStandby, w.nodes[next].timeline, ReceiverStreaming
		}
		if a.Hook == HookNotify && s.end.Exit == 0 {
			for _, o := range w.nodes {
				if o.outcome == SawStandby {
					o.receiver, o.timeline = ReceiverStreaming, w.nodes[next].timeline
				}
			}
		}
	})
	w.push(s.after, ev)
}

func (w *world) probe(a Probe) {
	n := w.nodes[a.Server]
	done := ProbeDone{Server: a.Server, ID: a.ID, Outcome: n.outcome, Code: n.code, Words: n.words, Started: w.now}
	took := time.Millisecond
	switch n.outcome {
	case SawTimeout, SawSilent:
		took = a.Timeout
	case SawPrimary, SawStandby:
		if n.writes {
			n.lsn++
		}
		took = max(took, n.takes)
		done.Obs = w.observation(n)
	case SawRefused, SawUnreachable, SawNoAddress, SawAlive, SawStarting, SawShutdown:
	}
	if !n.mute {
		w.push(took, done)
	}
}

func (w *world) observation(n *node) Observation {
	o := Observation{SystemID: n.system, Timeline: n.timeline, Paused: n.paused, PostmasterStart: n.start, Checkpoint: n.ckpt}
	if n.outcome == SawPrimary {
		o.WriteLSN, o.SyncStandbys, o.SyncWaiting = n.lsn, n.sync, n.syncWait
		return o
	}
	o.ReceiveLSN, o.ReplayLSN, o.Receiver, o.SenderServer = n.lsn, n.lsn, n.receiver, n.sender
	o.LastMsgAge, o.LastMsgKnown, o.ReceiverTimeout = n.msg, n.msg > 0, n.timeout
	if n.msgAt > 0 {
		o.LastMsgAge, o.LastMsgKnown = w.now-n.msgAt, true
	}
	return o
}

// byteAge is how long ago any worker had a byte from the server.
func (n *node) byteAge(now time.Duration) time.Duration {
	if n.bytes {
		return time.Millisecond
	}
	return now - n.quietAt
}

func (w *world) name(i int) string {
	if i < 0 {
		return "-"
	}
	return w.cfg.Servers[i].Name
}

func (w *world) index(name string) int {
	return slices.IndexFunc(w.cfg.Servers, func(s ServerConfig) bool { return s.Name == name })
}

func (w *world) print(format string, args ...any) {
	w.out = append(w.out, fmt.Sprintf("%8.3f ", w.now.Seconds())+fmt.Sprintf(format, args...))
}

func recordText(r Record) string {
	s := fmt.Sprintf("epoch=%d primary=%s tl=%d", r.Epoch, r.Primary, r.Timeline)
	if !r.Verified {
		s += " unverified"
	}
	if r.Hold != "" {
		s += " hold=" + r.Hold
	}
	if r.Run != nil {
		s += fmt.Sprintf(" run=%s/%s %s->%s", r.Run.Hook, r.Run.Phase, r.Run.Old, r.Run.New)
	}
	if r.Blocker != "" {
		s += " blocked"
	}
	if r.Cut {
		s += " cut-off"
	}
	if r.Notify {
		s += " notify-owed"
	}
	if r.Paused {
		s += " paused"
	}
	if r.Damaged {
		s += " damaged"
	}
	return s
}

func snapshotText(p Snapshot) string {
	open, primary := "held", "-"
	if p.Open {
		open = "open"
	}
	if p.Primary >= 0 {
		primary = p.Servers[p.Primary].Name
	}
	var states []string
	for _, s := range p.Servers {
		states = append(states, s.Name+"="+Display(s.State, s.Qualifier))
	}
	return fmt.Sprintf("gen=%d epoch=%d %s primary=%s [%s]", p.Gen, p.Epoch, open, primary, strings.Join(states, ", "))
}

func envText(env map[string]string) string {
	var keys []string
	for k, v := range env {
		if k != "PGAGROAL_RUN_ID" && k != "PGAGROAL_HOOK" {
			keys = append(keys, strings.TrimPrefix(k, "PGAGROAL_")+"="+v)
		}
	}
	sort.Strings(keys)
	return "{" + strings.Join(keys, "; ") + "}"
}

func logText(l Log) string {
	s := l.Level.String() + " " + l.Msg
	for _, a := range l.Attrs {
		if a.Key != "run" {
			s += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		}
	}
	return s
}

func historyText(h HistoryEntry) string {
	s := fmt.Sprintf("%s epoch=%d old=%s new=%s reason=%q result=%q", h.Kind, h.Epoch, h.Old, h.New, h.Reason, h.Result)
	for _, v := range h.Candidates {
		s += fmt.Sprintf(" (%s tl=%d lsn=%s %s)", v.Name, v.Timeline, v.LSN, v.Verdict)
	}
	return s
}

var errDisk = errors.New("no space left on device")
