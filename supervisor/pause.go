package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const (
	// pauseWait is how long a pause waits for running work unless the operator says so.
	pauseWait = 30 * time.Second
	// maxPauses is how many databases may be paused one by one.
	maxPauses = 100
	// maxRunning is how many connections a failed pause names.
	maxRunning = 5
)

var errInterrupted = errors.New("the command was interrupted")

// pauses are the pauses of clients, by database; "" is all databases.
//
//	(none) --command--> draining --no connection is left--> in force --resume, pause_timeout--> (none)
//	   ^                   |
//	   +--limit, resume----+
//
// While a pause is draining or in force, the workers give its clients no connection and close each
// connection that isn't needed any more. The Ledger shows when none is left.
type pauses map[string]*pause

type pause struct {
	began time.Duration
	limit *timer // first of the draining, then of the pause; nil for none
	// answer is called once, when the draining has ended.
	answer func(control.PauseResponse, error)
}

// holds reports whether the clients of a pool are paused.
func (p pauses) holds(k pool.Key) bool { return p[""] != nil || p[k.Database] != nil }

// databases returns the databases that are paused one by one.
func (p pauses) databases() []string {
	names := slices.Sorted(maps.Keys(p))
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// text says what is paused, "" for nothing.
func (p pauses) text() string {
	const end = " are paused by command: pgagroal-cli resume ends that"
	switch names := p.databases(); {
	case p[""] != nil:
		return "the clients of all databases" + end
	case len(names) > maxRunning:
		return fmt.Sprintf("the clients of %d databases%s", len(names), end)
	case len(names) > 0:
		return "the clients of " + strings.Join(names, ", ") + end
	}
	return ""
}

func nameOfPaused(database string) string {
	if database == "" {
		return everyDatabase
	}
	return database
}

// Pause holds clients, and returns when no connection of theirs is left.
func (o operator) Pause(ctx context.Context, order controlsocket.PauseOrder) (control.PauseResponse, error) {
	var mine *pause // belongs to the loop
	r, err := ask(ctx, o.s, func(answer func(control.PauseResponse, error)) { mine = o.s.startPause(order, answer) })
	if ctx.Err() != nil { // nobody may have the answer
		o.s.post(func() { o.s.pauseInterrupted(mine) })
	}
	return r, err
}

// Resume lets clients go on.
func (o operator) Resume(ctx context.Context, order controlsocket.PauseOrder) (control.PauseResponse, error) {
	return ask(ctx, o.s, func(answer func(control.PauseResponse, error)) { answer(o.s.resumeBy(order)) })
}

// pauseTarget returns the database that an order is about, "" for all. All clients are connected to the
// primary, so a pause of the primary is one of all databases.
func (s *supervisor) pauseTarget(order controlsocket.PauseOrder) (string, error) {
	if name := order.Server; name != "" {
		switch primary := s.servers.machine.Status(s.env.now()).Primary; {
		case !s.hasServer(name):
			return "", fmt.Errorf("%s: %w", name, controlsocket.ErrUnknownServer)
		case s.serverName(primary) != name:
			return "", fmt.Errorf("%s is not the primary: no client is connected to it", name)
		}
		return "", nil
	}
	if order.Database == everyDatabase || order.Database == starDatabase {
		return "", nil
	}
	if s.hasServer(order.Database) {
		return "", fmt.Errorf("%s is a server: pgagroal-cli pause server %s", order.Database, order.Database)
	}
	return config.RealDatabase(s.cfg.Limits, order.Database), nil
}

// startPause returns the pause that it begins, nil for none.
func (s *supervisor) startPause(order controlsocket.PauseOrder, answer func(control.PauseResponse, error)) *pause {
	database, err := s.pauseTarget(order)
	st := s.servers.machine.Status(s.env.now())
	switch old := s.clients.pauses[database]; {
	case err != nil:
	case old != nil && old.answer != nil:
		err = errors.New("another command is pausing these clients")
	case old != nil:
		answer(s.pauseResponse(database, "they were paused already"), nil)
		return nil
	case s.stop.mode != stopNot:
		err = errors.New("pgagroal is shutting down")
	case !s.servers.snapshot.Open:
		err = fmt.Errorf("clients are held already, phase %s: %s", st.Phase, st.Reason)
	case len(s.clients.pauses) >= maxPauses:
		err = errors.New("too many databases are paused one by one; pause all")
	}
	if err != nil {
		answer(control.PauseResponse{}, err)
		return nil
	}
	wait := pauseWait
	if order.Timeout != nil {
		wait = *order.Timeout
	}
	if most := s.cfg.PauseTimeout; most > 0 {
		wait = min(wait, most)
	}
	p := &pause{began: s.env.now(), answer: answer}
	p.limit = s.after(wait, func() { s.pauseFailed(database, p, wait) })
	if s.clients.pauses == nil {
		s.clients.pauses = pauses{}
	}
	s.clients.pauses[database] = p
	s.log.Warn("clients are paused, connections are closed as soon as they aren't needed", "database", nameOfPaused(database), "wait", wait)
	s.pausesChanged()
	s.stopAllLookUps()
	s.checkPauses()
	return p
}

// pausesChanged tells workers, Ledger and machine who is paused.
func (s *supervisor) pausesChanged() {
	var holds func(pool.Key) bool
	if len(s.clients.pauses) > 0 {
		holds = s.clients.pauses.holds
	}
	s.sendServerStates()
	s.carryOut(s.ledger.Hold(holds))
	s.feed(failover.ClientsPaused{All: s.clients.pauses[""] != nil, Text: s.clients.pauses.text()})
}

// checkPauses answers the commands whose clients have no connection left.
func (s *supervisor) checkPauses() {
	for _, database := range slices.Sorted(maps.Keys(s.clients.pauses)) {
		p := s.clients.pauses[database]
		if p.answer == nil || s.pausedLeases(database) > 0 {
			continue
		}
		answer := p.answer
		p.answer = nil
		s.timers.stop(p.limit)
		p.limit = nil
		if most := s.cfg.PauseTimeout; most > 0 {
			p.limit = s.after(most, func() { s.pauseForgotten(database, p, most) })
		}
		s.log.Warn("clients are paused, and no connection of theirs is left", "database", nameOfPaused(database), "took", (s.env.now() - p.began).Round(time.Millisecond))
		answer(s.pauseResponse(database, "no connection is left: "+s.pauseEnd()), nil)
	}
}

func (s *supervisor) pauseEnd() string {
	if s.cfg.PauseTimeout == 0 {
		return "clients wait until pgagroal-cli resume"
	}
	return fmt.Sprintf("clients wait until pgagroal-cli resume, at most for pause_timeout, %s", s.cfg.PauseTimeout)
}

func (s *supervisor) pausedLeases(database string) int {
	return s.ledger.Used(func(k pool.Key) bool { return database == "" || k.Database == database })
}

func (s *supervisor) pauseResponse(database, next string) control.PauseResponse {
	return control.PauseResponse{Paused: nameOfPaused(database), Next: next}
}

// pauseFailed takes a pause back whose connections were still in use at the limit, and says which these are. Otherwise a
// script that gives up would leave all clients waiting.
func (s *supervisor) pauseFailed(database string, p *pause, wait time.Duration) {
	p.limit = nil
	s.askReports(true, func(r *report) {
		if s.clients.pauses[database] != p || p.answer == nil {
			return
		}
		s.endPause(database, fmt.Errorf("not paused, clients go on: after %s %s", wait, s.running(r, database)))
	})
}

// running describes the connections that are still in use.
func (s *supervisor) running(r *report, database string) string {
	var list []string
	n := 0
	for _, x := range r.sessions {
		if x.Lease == 0 || database != "" && x.Database != database {
			continue
		}
		if n++; n <= maxRunning {
			list = append(list, fmt.Sprintf("%s@%s from %s, server process %d, %s", x.User, x.Database, x.Client, x.PID, sessionStates[x.State]))
		}
	}
	if n > maxRunning {
		list = append(list, fmt.Sprintf("and %d more", n-maxRunning))
	}
	n = max(n, s.pausedLeases(database))
	return fmt.Sprintf("%d connections are in use: %s", n, strings.Join(list, "; "))
}

// pauseInterrupted takes back the pause of a command that has ended before its answer; nil for none.
func (s *supervisor) pauseInterrupted(p *pause) {
	for database, is := range s.clients.pauses {
		if is == p {
			s.log.Warn("a command that pauses clients was interrupted: the pause is taken back", "database", nameOfPaused(database))
			s.endPause(database, errInterrupted)
			return
		}
	}
}

// pauseForgotten ends a pause that nobody has ended in time.
func (s *supervisor) pauseForgotten(database string, p *pause, most time.Duration) {
	if s.clients.pauses[database] == p {
		s.log.Error("nobody has resumed clients within pause_timeout: they go on", "database", nameOfPaused(database), "pause_timeout", most)
		s.endPause(database, nil)
	}
}

// endPause lets clients go on. why is the answer to a command that is still waiting.
func (s *supervisor) endPause(database string, why error) {
	p := s.clients.pauses[database]
	delete(s.clients.pauses, database)
	s.timers.stop(p.limit)
	s.log.Warn("clients go on", "database", nameOfPaused(database), "after", (s.env.now() - p.began).Round(time.Millisecond))
	s.pausesChanged()
	for _, l := range slices.Collect(maps.Keys(s.service.lookUps.paused)) {
		s.lookUpNow(l)
	}
	if p.answer != nil {
		p.answer(control.PauseResponse{}, why)
	}
}

// endPauses ends every pause.
func (s *supervisor) endPauses(why error) {
	for _, name := range slices.Sorted(maps.Keys(s.clients.pauses)) {
		s.endPause(name, why)
	}
}

// resumeBy ends the pause of a database, or, for all, every pause.
func (s *supervisor) resumeBy(order controlsocket.PauseOrder) (control.PauseResponse, error) {
	database, err := s.pauseTarget(order)
	if order.Server != "" && s.hasServer(order.Server) {
		database, err = "", nil // it may have lost its part as the primary meanwhile
	}
	switch {
	case err != nil:
		return control.PauseResponse{}, err
	case database != "" && s.clients.pauses[database] == nil && s.clients.pauses[""] != nil:
		return control.PauseResponse{}, errors.New("all databases are paused: pgagroal-cli resume")
	}
	ended := 0
	for _, name := range slices.Sorted(maps.Keys(s.clients.pauses)) {
		if database == "" || name == database {
			s.endPause(name, errors.New("another command has resumed these clients"))
			ended++
		}
	}
	if ended == 0 {
		return s.pauseResponse(database, "nothing was paused"), nil
	}
	return s.pauseResponse(database, "clients go on"), nil
}
