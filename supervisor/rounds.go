package supervisor

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// round is one question to several workers. It ends when each of them has answered
// or is dead, or at its limit. What the answers mean is for its owner: activity,
// quiesce, fence, reports and cancel.
type round struct {
	id    uint64
	limit time.Duration
	done  func() // called once, at the end
	// atLimit is called at the limit in place of the end; nil to end.
	atLimit func()
	// asker is the worker that waits for the end, nil when the supervisor does. Its
	// death ends the round too.
	asker   *child
	missing map[*child]bool // asked, has not answered, and its exit isn't seen
	timer   *timer
}

// rounds are those under way, oldest first.
type rounds struct {
	lastID uint64
	open   []*round
}

func (s *supervisor) newRound(limit time.Duration, done func()) *round {
	s.rounds.lastID++
	return &round{id: s.rounds.lastID, limit: limit, done: done, missing: map[*child]bool{}}
}

// ask starts a round: it waits for all the workers and sends m to those that are
// ready. Without any worker the round ends at once.
func (s *supervisor) ask(r *round, workers []*child, m ipc.Message) {
	s.rounds.open = append(s.rounds.open, r)
	for _, c := range workers {
		r.missing[c] = true
	}
	for _, c := range workers {
		if c.state == childReady {
			s.send(c, m)
		}
	}
	if len(r.missing) == 0 {
		s.endRound(r)
		return
	}
	r.timer = s.after(r.limit, func() {
		if r.atLimit != nil {
			r.atLimit()
			return
		}
		s.endRound(r)
	})
}

// awaits says that the worker's answer is still missing, false for no round too.
func (r *round) awaits(c *child) bool { return r != nil && r.missing[c] }

// answered takes a worker's answer as complete, or its death as the answer.
func (s *supervisor) answered(r *round, c *child) {
	if !r.awaits(c) {
		return
	}
	delete(r.missing, c)
	if len(r.missing) == 0 {
		s.endRound(r)
	}
}

// endRound ends a round, whoever is missing.
func (s *supervisor) endRound(r *round) {
	if s.dropRound(r) {
		r.done()
	}
}

// dropRound forgets a round that nobody waits for any more, and reports whether it
// was under way; nil never is.
func (s *supervisor) dropRound(r *round) bool {
	i := slices.Index(s.rounds.open, r)
	if i < 0 {
		return false
	}
	s.rounds.open = slices.Delete(s.rounds.open, i, i+1)
	s.timers.stop(r.timer)
	return true
}

// roundsWithout goes on without a worker that is dead.
func (s *supervisor) roundsWithout(c *child) {
	for _, r := range slices.Clone(s.rounds.open) {
		if r.asker == c {
			s.endRound(r)
			continue
		}
		s.answered(r, c)
	}
}

// everyReady returns all workers that are up.
func (s *supervisor) everyReady() []*child {
	var list []*child
	s.ready(func(c *child) { list = append(list, c) })
	return list
}
