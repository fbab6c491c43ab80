package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// activityLimit is how long workers have to say when they last heard from a server.
const activityLimit = 200 * time.Millisecond

// ages is the round that asks when servers were last heard from. There is at most one;
// a question that comes meanwhile shares its answer.
type ages struct {
	round   *round
	servers []int         // that the machine has asked about
	least   map[int]int64 // milliseconds per server; absent: never
}

// askActivity asks all workers when they last heard from the server. Activity answers
// the machine.
func (s *supervisor) askActivity(server int) {
	g := &s.ages
	g.servers = append(g.servers, server)
	if len(g.servers) > 1 {
		return
	}
	g.least = map[int]int64{}
	g.round = s.newRound(activityLimit, s.endActivity)
	s.ask(g.round, s.everyReady(), &ipc.ActivityRequest{ID: g.round.id})
}

func (s *supervisor) onActivity(c *child, m *ipc.Activity) {
	g := &s.ages
	if !g.round.awaits(c) || m.ID != g.round.id {
		return
	}
	if wrong := s.claimOfActivity(m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	for i, ms := range m.AgesMS {
		if old, seen := g.least[i]; ms >= 0 && (!seen || ms < old) {
			g.least[i] = ms
		}
	}
	s.answered(g.round, c)
}

// endActivity answers the machine. A worker that didn't answer in time may have heard
// from the server, so the server counts as heard from just now. This can't delay a
// failover for long: a worker that hangs is killed when it doesn't answer its ping.
func (s *supervisor) endActivity() {
	g := &s.ages
	late := len(g.round.missing) > 0
	asked := g.servers
	g.servers, g.round = nil, nil
	for _, server := range asked {
		ms, heard := g.least[server]
		ev := failover.Activity{Server: server, Never: !heard && !late, Age: time.Duration(ms) * time.Millisecond}
		if late {
			ev.Age = 0
		}
		s.feed(ev)
	}
}
