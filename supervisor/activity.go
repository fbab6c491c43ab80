package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// activityLimit is how long workers have to tell when they last heard a server.
const activityLimit = 200 * time.Millisecond

// ages is the question to all workers that is under way. There is one at a
// time; who asks meanwhile shares its answer.
type ages struct {
	id      uint64
	waiting map[*child]bool
	servers []int         // asked for
	least   map[int]int64 // milliseconds per server; absent: never
	limit   *timer
}

// askActivity asks all workers, to be answered by Activity.
func (s *supervisor) askActivity(server int) {
	g := &s.ages
	g.servers = append(g.servers, server)
	if len(g.servers) > 1 {
		return
	}
	g.id++
	g.waiting, g.least = map[*child]bool{}, map[int]int64{}
	s.ready(func(c *child) { g.waiting[c] = true })
	for c := range g.waiting {
		s.send(c, &ipc.ActivityRequest{ID: g.id})
	}
	g.limit = s.after(activityLimit, s.endActivity)
	if len(g.waiting) == 0 {
		s.endActivity()
	}
}

func (s *supervisor) onActivity(c *child, m *ipc.Activity) {
	g := &s.ages
	if m.ID != g.id || !g.waiting[c] {
		return
	}
	for i, ms := range m.AgesMS {
		if old, seen := g.least[i]; ms >= 0 && (!seen || ms < old) {
			g.least[i] = ms
		}
	}
	s.agesWithout(c)
}

// agesWithout goes on without a worker that has answered, or is dead.
func (s *supervisor) agesWithout(c *child) {
	if s.ages.waiting[c] {
		delete(s.ages.waiting, c)
		if len(s.ages.waiting) == 0 {
			s.endActivity()
		}
	}
}

// endActivity answers the machine. A worker that didn't answer in time may be
// the one that hears the server, so then the server counts as heard just now: a
// stuck worker is killed by its ping, and can delay a failover only until then.
func (s *supervisor) endActivity() {
	g := &s.ages
	s.timers.stop(g.limit)
	late := len(g.waiting) > 0
	asked := g.servers
	g.servers, g.waiting = nil, nil
	for _, server := range asked {
		ms, heard := g.least[server]
		ev := failover.Activity{Server: server, Never: !heard && !late, Age: time.Duration(ms) * time.Millisecond}
		if late {
			ev.Age = 0
		}
		s.feed(ev)
	}
}
