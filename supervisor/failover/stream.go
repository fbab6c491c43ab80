package failover

import "time"

// These constants tell a stream that never pauses from a stream that was seen by chance just after a message. A look is
// one probe of the standby.
const (
	streamPause = 2 * time.Second        // more time than this between two messages is a pause
	streamLooks = 3                      // a stream is busy after so many looks in a row without a pause
	looksApart  = 10 * time.Second       // at most this far apart, since an idle stream may have a message as often
	looksTwice  = time.Second            // and at least this far
	msgJitter   = 100 * time.Millisecond // precision of the time of a message
)

// stream is what the looks at a standby have shown about the messages that it receives.
type stream struct {
	looks  int  // looks in a row that found a recent message
	paused bool // the latest look found no new message
	msgAt  time.Duration
	lookAt time.Duration // time of the last look that was counted
}

// look counts one look, by the age of the latest message. If no new message has come, the count stays, because the
// question is whether a busy stream has ceased.
func (t *stream) look(age, now time.Duration) {
	msg := now - age
	fresh := age <= streamPause
	switch {
	case t.lookAt != 0 && msg <= t.msgAt+msgJitter:
		t.paused = t.paused || !fresh
		return
	case t.busy() && !t.paused && !fresh: // it has ceased since the look before, or paused
		t.paused = true
	case t.paused || !fresh || now-t.lookAt > looksApart:
		t.looks, t.paused, t.lookAt = 0, false, now
		if fresh {
			t.looks = 1
		}
	case now-t.lookAt >= looksTwice:
		t.looks++
		t.lookAt = now
	}
	t.msgAt = msg
}

// busy reports whether messages came without a pause until they ceased.
func (t *stream) busy() bool { return t.looks >= streamLooks }

// ceased reports whether a streaming standby has had no message for so long that its sender p must be dead or cut off.
// Either its stream was busy until p's latest answer to a probe and has been silent for failover_silence_time since. Or its
// receiver has asked for a message, as it does after half of its time-out, and got none.
func (m *Machine) ceased(s, p *server) bool {
	o := s.obs
	switch {
	case !o.LastMsgKnown:
		return false
	case s.busy() && o.LastMsgAge >= m.cfg.SilenceTime && s.msgAt+msgJitter >= p.answered:
		return true
	}
	return o.ReceiverTimeout > 0 && o.LastMsgAge > o.ReceiverTimeout/2+answerTime
}

// silentSince returns when the silence of server i began, as far as it proves anything. That is the first failed probe, or
// a later byte: before the probe nobody may have asked the server anything. But if the server was sending to all standbys
// without a pause, and to pooled connections, it is the last byte that anybody received.
func (m *Machine) silentSince(i int) time.Duration {
	s := m.servers[i]
	asked := max(s.firstDead, s.byteAt)
	last, streams := s.byteAt, 0
	for j, w := range m.each() {
		if j == i || w.last != SawStandby || m.foreign(w) || m.alias(j) {
			continue
		}
		if !w.busy() || w.msgAt > s.byteAt+streamPause {
			return asked
		}
		last = max(last, w.msgAt)
		streams++
	}
	if streams == 0 || !s.byteKnown {
		return asked
	}
	return last
}
