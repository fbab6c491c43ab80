package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// activityLimit is how long workers have to tell when they last heard a server.
const activityLimit = 200 * time.Millisecond

// ages is the round about when servers were last heard. There is one at a time;
// who asks meanwhile shares its answer.
type ages struct {
	round   *round
	servers []int         // asked for
	least   map[int]int64 // milliseconds per server; absent: never
}

// askActivity asks all workers, to be answered by Activity.
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

// endActivity answers the machine. A worker that didn't answer in time may be
// the one that hears the server, so then the server counts as heard just now: a
// stuck worker is killed by its ping, and can delay a failover only until then.
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
