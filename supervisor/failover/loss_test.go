package failover

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var lossTrials = flag.Int("losses", 2000, "how many windows of packet loss TestPacketLossIsNoDeath plays for each case")

const (
	lossRate  = 0.3
	lossTime  = 20 * time.Second
	lossStep  = 500 * time.Microsecond // one way through the network
	minRTO    = 200 * time.Millisecond // Linux, after a handshake without loss
	lateRTO   = 3 * time.Second        // Linux, after a handshake that had to repeat its SYN
	synRTO    = time.Second
	loginTrip = 4 // round trips after the handshake: start-up, SCRAM twice, the queries
)

// lossy is a primary whose link loses packets for lossTime, with TCP's way to repeat them: after a while that doubles
// each time. Everything is the model's but the Machine.
type lossy struct {
	r     *rand.Rand
	cfg   Config
	m     *Machine
	now   time.Duration
	queue queue
	seq   int
	// busy: this many pooled connections ask something every 100 ms. byteAt is when the latest answer came.
	byteAt time.Duration
	// timeout is the standby's wal_receiver_timeout, heard when its receiver had a message.
	timeout time.Duration
	heard   []time.Duration
	// gone says since when and until when the standby's receiver has given up, if it looks through the same link.
	gone   [][2]time.Duration
	fenced time.Duration
}

// oneWay is when a packet sent at t arrives, if it is repeated after rto, then twice that, and so on.
func (l *lossy) oneWay(t, rto time.Duration) time.Duration {
	for t < lossTime && l.r.Float64() < lossRate {
		t += rto
		rto *= 2
	}
	return t + lossStep
}

// handshake is when a connection asked for at t is there, and the time-out with which it begins.
func (l *lossy) handshake(t time.Duration) (time.Duration, time.Duration) {
	there := l.oneWay(t, synRTO)
	back := l.oneWay(there, synRTO)
	if back-t > synRTO {
		return back, lateRTO
	}
	return back, minRTO
}

// login is when a probe that starts at t has its answers.
func (l *lossy) login(t time.Duration) time.Duration {
	at, rto := l.handshake(t)
	for range loginTrip {
		at = l.oneWay(l.oneWay(at, rto), minRTO)
	}
	return at
}

// traffic plays pooled connections and notes each byte that comes in.
func (l *lossy) traffic(busy int) []time.Duration {
	var came []time.Duration
	for range busy {
		for at := time.Duration(l.r.Int64N(int64(100 * time.Millisecond))); at < 2*lossTime; at += 100 * time.Millisecond {
			at = l.oneWay(l.oneWay(at, minRTO), minRTO)
			came = append(came, at)
		}
	}
	return came
}

// receiver plays a walreceiver on an idle primary: it asks after half of wal_receiver_timeout without a message and gives
// up after all of it, then connects again every 5 s.
func (l *lossy) receiver() {
	heard := -time.Duration(l.r.Int64N(int64(l.timeout / 2)))
	for heard < 2*lossTime {
		l.heard = append(l.heard, heard)
		answer := l.oneWay(l.oneWay(heard+l.timeout/2, minRTO), minRTO)
		if answer <= heard+l.timeout {
			heard = answer
			continue
		}
		from := heard + l.timeout
		heard = l.login(from + 5*time.Second)
		l.gone = append(l.gone, [2]time.Duration{from, heard})
	}
}

// stream plays a primary that sends to the standby all the time. What is sent after a packet that was lost waits for it.
func (l *lossy) stream() {
	l.gone = nil
	came := -100 * time.Millisecond
	l.heard = []time.Duration{came}
	for at := time.Duration(0); at < 2*lossTime; at += 100 * time.Millisecond {
		came = max(came, l.oneWay(at, minRTO))
		l.heard = append(l.heard, came)
	}
}

// silent is how long the receiver has had no message.
func (l *lossy) silent() time.Duration {
	last := -time.Hour
	for _, at := range l.heard {
		if at <= l.now {
			last = at
		}
	}
	return l.now - last
}

func (l *lossy) receives() bool {
	for _, g := range l.gone {
		if l.now >= g[0] && l.now < g[1] {
			return false
		}
	}
	return true
}

func (l *lossy) step(ev Event) {
	for _, a := range l.m.Step(l.now, ev) {
		switch a := a.(type) {
		case Probe:
			l.probe(a)
		case AskActivity:
			l.push(l.now, Activity{Server: a.Server, Age: l.now - l.byteAt})
		case Save:
			l.push(l.now, SaveDone{a.Seq, nil})
		case Fence:
			l.fenced = l.now
		default:
		}
	}
}

func (l *lossy) push(at time.Duration, ev Event) {
	l.seq++
	heap.Push(&l.queue, item{at: at, seq: l.seq, ev: ev})
}

func (l *lossy) probe(a Probe) {
	d := ProbeDone{Server: a.Server, ID: a.ID, Started: l.now}
	if a.Server > 0 {
		d.Outcome = SawStandby
		d.Obs = Observation{SystemID: 7, Timeline: 1, ReceiveLSN: 1, Receiver: ReceiverGone}
		if l.receives() {
			d.Obs.Receiver, d.Obs.LastMsgKnown, d.Obs.LastMsgAge, d.Obs.ReceiverTimeout = ReceiverStreaming, true, l.silent(), l.timeout
		}
		l.push(l.now+time.Millisecond, d)
		return
	}
	end := l.login(l.now)
	d.Outcome, d.Obs = SawPrimary, Observation{SystemID: 7, Timeline: 1, WriteLSN: 1}
	if end > l.now+a.Timeout {
		end, d.Outcome, d.Obs = l.now+a.Timeout, SawSilent, Observation{}
	}
	l.push(end, d)
}

// falseRun plays one window of loss and says whether the primary was given up for it.
func falseRun(seed uint64, silence time.Duration, busy int, timeout time.Duration, stream bool) bool {
	l := &lossy{r: rand.New(rand.NewPCG(seed, 7)), fenced: -1}
	l.cfg = Config{Enabled: true, SilenceTime: silence}
	for i := range 2 {
		l.cfg.Servers = append(l.cfg.Servers, ServerConfig{Name: fmt.Sprintf("s%d", i), Host: "h", Port: "1", Candidate: true})
	}
	l.m = New(l.cfg, nil, 0)
	l.now = -time.Second
	l.gone = [][2]time.Duration{{-time.Hour, time.Hour}}
	if timeout > 0 {
		l.gone, l.timeout = nil, timeout
		l.receiver()
		if stream {
			l.stream()
		}
	}
	for _, at := range l.traffic(busy) {
		l.push(at, nil)
	}
	for at := time.Duration(0); at < lossTime; at += time.Second {
		l.push(at, Hinted{Server: 0, Epoch: 1, Kind: "timeout"})
	}
	// Before the loss begins the pool has opened on a primary that answered.
	l.m.Step(0, RunnerUp{})
	l.m.Step(0, RunsAllowed{Allowed: true})
	l.now = 0
	l.startOpen()
	if stream {
		l.m.servers[1].looks = streamLooks
	}
	l.play()
	return l.fenced >= 0
}

// startOpen opens on s0, in no time.
func (l *lossy) startOpen() {
	for _, a := range l.m.Step(0, Started{}) {
		if p, ok := a.(Probe); ok {
			d := ProbeDone{Server: p.Server, ID: p.ID, Outcome: SawPrimary, Obs: Observation{SystemID: 7, Timeline: 1, WriteLSN: 1}}
			if p.Server > 0 {
				d.Outcome, d.Obs = SawStandby, Observation{SystemID: 7, Timeline: 1, ReceiveLSN: 1, Receiver: ReceiverStreaming}
			}
			l.push(0, d)
		}
	}
}

func (l *lossy) play() {
	for l.fenced < 0 {
		at := 2 * lossTime
		tick := false
		if d, ok := l.m.Deadline(); ok && d < at {
			at, tick = max(d, l.now), true
		}
		switch {
		case len(l.queue) > 0 && l.queue[0].at <= at:
			it := heap.Pop(&l.queue).(item)
			l.now = max(l.now, it.at)
			if it.ev == nil {
				l.byteAt = l.now
			} else {
				l.step(it.ev)
			}
		case tick:
			l.now = at
			l.step(Tick{})
		default:
			return
		}
	}
}

// TestPacketLossIsNoDeath: with 30 % of the packets lost for 20 s a living primary is given up in less than one of 1000
// such windows. The result is in doc/FAILOVER.md; run it with -losses 100000 -v for figures.
func TestPacketLossIsNoDeath(t *testing.T) {
	n := *lossTrials
	if testing.Short() || raceDetector {
		n = min(n, 500)
	}
	const hasty, usual = 10 * time.Second, 60 * time.Second
	for _, c := range []struct {
		name    string
		silence time.Duration
		busy    int
		timeout time.Duration // the standby's wal_receiver_timeout, 0: it has no receiver
		stream  bool          // the standby receives all the time
		shown   bool          // for the figures only
	}{
		{"idle pool, standby behind the same link", silenceTime, 0, hasty, false, false},
		{"one busy connection, standby behind the same link", silenceTime, 1, hasty, false, false},
		{"idle pool, standby behind the same link with the default time-out", silenceTime, 0, usual, false, false},
		{"one busy connection, standby behind the same link with the default time-out", silenceTime, 1, usual, false, false},
		{"idle pool, standby that receives all the time", silenceTime, 0, usual, true, false},
		{"one busy connection, standby that receives all the time", silenceTime, 1, usual, true, false},
		{"one busy connection, standby without a receiver", silenceTime, 1, 0, false, false},
		{"ten busy connections, standby without a receiver", silenceTime, 10, 0, false, false},
		{"idle pool, standby behind the same link", 10 * time.Second, 0, hasty, false, true},
		{"idle pool, standby without a receiver", 10 * time.Second, 0, 0, false, true},
		{"idle pool, standby without a receiver", silenceTime, 0, 0, false, true},
		{"idle pool, standby without a receiver", 20 * time.Second, 0, 0, false, true},
	} {
		if c.shown && !testing.Verbose() {
			continue
		}
		wrong := 0
		for seed := range n {
			if falseRun(uint64(seed), c.silence, c.busy, c.timeout, c.stream) {
				wrong++
			}
		}
		t.Logf("%s, silence time %v: %d of %d", c.name, c.silence, wrong, n)
		if !c.shown && wrong*1000 >= max(n, 1000) {
			t.Errorf("%s, silence time %v: given up in %d of %d windows", c.name, c.silence, wrong, n)
		}
	}
}
