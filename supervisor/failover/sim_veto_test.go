package failover

import (
	"strings"
	"time"
)

// look is what the latest answer delivered in this life said of one server.
type look struct {
	done ProbeDone
	at   time.Duration
	dead time.Duration // start of the first failed probe of the row, 0 for none
}

func (l *look) take(p ProbeDone, now time.Duration) {
	failed := p.Outcome == SawTimeout || p.Outcome == SawSilent || p.Outcome == SawRefused
	if !failed {
		l.dead = 0
	} else if l.dead == 0 {
		l.dead = p.Started
	}
	l.done, l.at = p, now
}

// checkVeto: a silent primary isn't given up while a standby has received something from it since its latest failed
// probe began, as a look made after that probe shows.
func (s *sim) checkVeto() {
	if !s.cfg.Veto || !strings.HasPrefix(s.m.why, "silent for") || s.asked.Seq == s.m.fence.seq {
		return
	}
	p := s.looks[s.m.known.index]
	if s.now >= p.dead+s.cfg.VetoMax {
		return
	}
	for i, l := range s.looks {
		o := l.done.Obs
		if i == s.m.known.index || l.done.Outcome != SawStandby || o.Receiver != ReceiverStreaming || s.m.servers[i].state == Failed || s.m.foreign(s.m.servers[i]) {
			continue
		}
		if l.done.Started < p.at {
			s.fail("given up without a look at s%d after the latest failed probe", i)
		}
		if o.LastMsgKnown && l.at-o.LastMsgAge > p.done.Started {
			s.fail("given up although s%d vetoes", i)
		}
	}
}
