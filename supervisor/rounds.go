package supervisor

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// round is one question to several workers. It ends when each of them has answered or
// is dead, or at its limit. Its owner knows what the answers mean: activity, quiesce,
// fence, reports or cancel.
type round struct {
	id    uint64
	limit time.Duration
	done  func() // called once, at the end
	// atLimit, if not nil, is called at the limit instead of ending the round.
	atLimit func()
	// asker is the worker that waits for the end, nil if the supervisor does. Its death
	// ends the round, too.
	asker   *child
	found   bool            // a worker had what it was asked for; only for cancel requests
	missing map[*child]bool // was asked, has not answered, and has not exited
	timer   *timer
}

// rounds are the rounds in progress, oldest first.
type rounds struct {
	lastID uint64
	open   []*round
	// reports are those that collect a status.
	reports reports
	// flushes close backends for an operator.
	flushes flushes
	// kicks disconnect clients, by id.
	kicks map[uint64]*kick
}

func (s *supervisor) newRound(limit time.Duration, done func()) *round {
	s.rounds.lastID++
	return &round{id: s.rounds.lastID, limit: limit, done: done, missing: map[*child]bool{}}
}

// ask starts a round: it sends m to those of the workers that are ready, and waits for
// all of them. Without any worker the round ends at once.
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

// awaits reports whether the worker's answer is still missing. A nil round waits for no
// one.
func (r *round) awaits(c *child) bool { return r != nil && r.missing[c] }

// answered records that the worker's answer is complete, or that it is dead.
func (s *supervisor) answered(r *round, c *child) {
	if !r.awaits(c) {
		return
	}
	delete(r.missing, c)
	if len(r.missing) == 0 {
		s.endRound(r)
	}
}

// endRound ends a round, even if answers are missing.
func (s *supervisor) endRound(r *round) {
	if s.dropRound(r) {
		r.done()
	}
}

// dropRound forgets a round that nobody waits for any more, and reports whether it was
// in progress. A nil round never is.
func (s *supervisor) dropRound(r *round) bool {
	i := slices.Index(s.rounds.open, r)
	if i < 0 {
		return false
	}
	s.rounds.open = slices.Delete(s.rounds.open, i, i+1)
	s.timers.stop(r.timer)
	return true
}

// roundsWithout stops all rounds from waiting for a dead worker.
func (s *supervisor) roundsWithout(c *child) {
	for _, r := range slices.Clone(s.rounds.open) {
		if r.asker == c {
			s.endRound(r)
			continue
		}
		s.answered(r, c)
	}
}

// everyReady returns all workers in state ready.
func (s *supervisor) everyReady() []*child {
	var list []*child
	s.ready(func(c *child) { list = append(list, c) })
	return list
}
