package failover

import "time"

// How a stream of messages that never pauses is told from one that was looked at just after a message.
const (
	streamPause = 2 * time.Second        // a longer pause between two messages is one
	streamLooks = 3                      // so many looks in a row without a pause
	looksApart  = 10 * time.Second       // between two of them at most: an idle stream's question may come as often
	looksTwice  = time.Second            // and at least
	msgJitter   = 100 * time.Millisecond // how exactly the time of a message is known
)

// stream is what the looks at a standby have shown of the messages that it receives.
type stream struct {
	looks  int  // in a row that found a message of a moment ago
	paused bool // the latest look found no new message
	msgAt  time.Duration
	lookAt time.Duration // that was counted
}

// look takes the age of the latest message. While no new one comes, what was counted before stays: that the stream has
// ceased is the question.
func (t *stream) look(age, now time.Duration) {
	msg := now - age
	fresh := age <= streamPause
	switch {
	case t.lookAt != 0 && msg <= t.msgAt+msgJitter:
		t.paused = t.paused || !fresh
		return
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

// busy says that messages came without a pause until they ceased.
func (t *stream) busy() bool { return t.looks >= streamLooks }

// ceased says that a standby that streams has had no message for so long that there is nobody who sends any: it was busy
// and has had none for failover_silence_time, or its receiver has asked for one, which it does when half of its time-out
// has passed without, and got none.
func (m *Machine) ceased(s *server) bool {
	o := s.obs
	switch {
	case !o.LastMsgKnown:
		return false
	case s.busy() && o.LastMsgAge >= m.cfg.SilenceTime:
		return true
	}
	return o.ReceiverTimeout > 0 && o.LastMsgAge > o.ReceiverTimeout/2+answerTime
}
