package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

const (
	// flushAnswer is how long workers have to answer a flush, which takes them a moment.
	flushAnswer = 5 * time.Second
	// maxFlushLimits is how many graceful flushes with a time limit may be under way.
	maxFlushLimits = 100
)

// flushes are the flushes of backends that are under way.
type flushes struct {
	open []*flush
	// limits are the time limits of graceful flushes, by database, "" for all.
	limits map[string]*timer
}

// flush is a round that has the workers close backends.
type flush struct {
	round *round
	asked *ipc.Flush
	sum   control.FlushResponse
}

var errManyFlushes = errors.New("too many graceful flushes with a time limit are under way")

var flushModes = map[controlsocket.FlushMode]ipc.FlushMode{
	controlsocket.FlushIdle: ipc.FlushIdle, controlsocket.FlushGracefully: ipc.FlushGracefully, controlsocket.FlushAll: ipc.FlushAll,
}

// Flush closes connections to the servers.
func (o operator) Flush(ctx context.Context, order controlsocket.FlushOrder) (control.FlushResponse, error) {
	return ask(ctx, o.s, func(answer func(control.FlushResponse, error)) { o.s.orderFlush(order, answer) })
}

// orderFlush begins a flush. A graceful one with clients gets a time limit, which replaces the limit of an
// earlier flush of the same database.
func (s *supervisor) orderFlush(order controlsocket.FlushOrder, answer func(control.FlushResponse, error)) {
	database := config.RealDatabase(s.cfg.Limits, order.Database)
	if order.Database == everyDatabase || order.Database == starDatabase {
		database = ""
	}
	limit := s.cfg.FlushTimeout
	if order.Timeout != nil {
		limit = *order.Timeout
	}
	x := &s.rounds.flushes
	timed := order.Mode == controlsocket.FlushGracefully && limit > 0
	if timed && x.limits[database] == nil && len(x.limits) >= maxFlushLimits {
		answer(control.FlushResponse{}, errManyFlushes)
		return
	}
	if order.Mode == controlsocket.FlushGracefully { // -T 0 takes an earlier limit back
		s.timers.stop(x.limits[database])
		delete(x.limits, database)
	}
	s.flush(flushModes[order.Mode], database, func(sum control.FlushResponse, err error) {
		s.log.Info("flush", "mode", order.Mode.String(), "database", order.Database, "closed", sum.Closed, "when_unused", sum.Graceful)
		if timed && sum.Graceful > 0 {
			s.limitFlush(database, limit)
		}
		answer(sum, err)
	})
}

// limitFlush disconnects the clients whose connections a graceful flush still waits for after its time
// limit.
func (s *supervisor) limitFlush(database string, limit time.Duration) {
	x := &s.rounds.flushes
	s.timers.stop(x.limits[database])
	if x.limits == nil {
		x.limits = map[string]*timer{}
	}
	x.limits[database] = s.after(limit, func() {
		delete(x.limits, database)
		s.flush(ipc.FlushMarked, database, func(sum control.FlushResponse, _ error) {
			s.log.Warn("the time limit of a graceful flush is over: clients are disconnected", "database", database, "limit", limit, "clients", sum.Closed)
		})
	})
}

// flush has all workers close backends. done gets the sum of their answers.
func (s *supervisor) flush(mode ipc.FlushMode, database string, done func(control.FlushResponse, error)) {
	f := &flush{}
	f.round = s.newRound(flushAnswer, func() {
		s.rounds.flushes.without(f)
		if n := len(f.round.missing); n > 0 {
			done(f.sum, fmt.Errorf("%d workers have not answered within %s; they flush as soon as they can", n, flushAnswer))
			return
		}
		done(f.sum, nil)
	})
	f.asked = &ipc.Flush{ID: f.round.id, Mode: mode, Database: database}
	s.rounds.flushes.open = append(s.rounds.flushes.open, f)
	s.ask(f.round, s.everyReady(), f.asked)
}

func (x *flushes) without(f *flush) {
	var open []*flush
	for _, other := range x.open {
		if other != f {
			open = append(open, other)
		}
	}
	x.open = open
}

func (s *supervisor) onFlushed(c *child, m *ipc.Flushed) {
	for _, f := range s.rounds.flushes.open {
		if f.round.id != m.ID || !f.round.awaits(c) {
			continue
		}
		if most := s.ledger.Held(c.index); m.Closed < 0 || m.Marked < 0 || m.Closed > most || m.Marked > most-m.Closed {
			s.violation(c, "it has flushed more connections than it has")
			return
		}
		f.sum.Closed += m.Closed
		f.sum.Graceful += m.Marked
		s.answered(f.round, c)
		return
	}
}

// flushesMoving reports whether a backend that a worker hands over escapes a flush: the worker
// hasn't seen the flush yet, and the next worker gets the backend after its own answer.
func (s *supervisor) flushesMoving(c *child, database string) bool {
	for _, f := range s.rounds.flushes.open {
		if f.round.awaits(c) && f.asked.Mode != ipc.FlushMarked && (f.asked.Database == "" || f.asked.Database == database) {
			return true
		}
	}
	return false
}

// ClearFigures sets the counters of the metrics back to zero.
func (o operator) ClearFigures(ctx context.Context) error {
	_, err := ask(ctx, o.s, func(answer func(struct{}, error)) {
		o.s.clearFigures(func() { answer(struct{}{}, nil) })
	})
	return err
}
