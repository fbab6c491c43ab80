package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// recycling replaces processes of workers by fresh ones, one after the other. The next one begins when
// the one before has tried to hand over every session.
type recycling struct {
	left   []*child
	old    *child // that is being replaced
	sum    control.RecycleResponse
	answer func(control.RecycleResponse, error)
}

// Recycle replaces workers.
func (o operator) Recycle(ctx context.Context, which string) (control.RecycleResponse, error) {
	return ask(ctx, o.s, func(answer func(control.RecycleResponse, error)) { o.s.startRecycle(which, answer) })
}

func (s *supervisor) startRecycle(which string, answer func(control.RecycleResponse, error)) {
	list, err := s.toRecycle(which)
	if err == nil {
		err = s.mayRecycle()
	}
	if err != nil {
		answer(control.RecycleResponse{}, err)
		return
	}
	s.workers.recycling = &recycling{left: list, answer: answer}
	s.recycleNext()
}

// toRecycle returns the workers that an order is about: all, or the one with a process id.
func (s *supervisor) toRecycle(which string) (list []*child, err error) {
	pid, err := strconv.Atoi(which)
	if which != control.AllWorkers && err != nil {
		return nil, fmt.Errorf("%q is neither %s nor the process id of a worker", which, control.AllWorkers)
	}
	s.ready(func(c *child) {
		if !s.retires(c) && (which == control.AllWorkers || c.started.pid == pid) {
			list = append(list, c)
		}
	})
	if len(list) == 0 {
		return nil, fmt.Errorf("no worker that gets clients has the process id %s; pgagroal-cli clients shows them", which)
	}
	return list, nil
}

// mayRecycle says what is in the way of replacing workers.
func (s *supervisor) mayRecycle() error {
	st := s.servers.machine.Status(s.env.now())
	retired := s.stillRetired()
	switch {
	case s.stop.mode != stopNot:
		return errors.New("pgagroal is shutting down")
	case s.workers.recycling != nil:
		return errors.New("workers are being replaced already")
	case !s.servers.snapshot.Open || st.Busy():
		return fmt.Errorf("no worker is replaced now, phase %s: %s", st.Phase, st.Reason)
	case retired > 0:
		return fmt.Errorf("%d workers that were replaced before still have clients that can't be moved; upgrade_timeout limits that", retired)
	}
	return nil
}

// recycleNext replaces the next worker, or answers.
func (s *supervisor) recycleNext() {
	r := s.workers.recycling
	for len(r.left) > 0 {
		c := r.left[0]
		r.left = r.left[1:]
		if c.state == childReady && s.stop.mode == stopNot {
			r.old = c
			s.log.Info("worker is replaced", "worker", c.index, "child", c.started.pid, "clients", len(c.clients))
			s.replaceWorker(c)
			return
		}
	}
	s.workers.recycling = nil
	r.answer(r.sum, nil)
}

// recyclePassed continues when a worker has tried to hand over every session.
func (s *supervisor) recyclePassed(c *child, left int) {
	r := s.workers.recycling
	if r == nil || r.old != c {
		return
	}
	r.sum.Workers++
	if x := s.workers.slots[c.index].retired; x != nil {
		r.sum.Moved += int(x.pass.moved)
	}
	r.sum.Left += left
	s.recycleNext()
}

// recycleGone continues when a worker has ended. It reports whether that was the new one, which was never
// ready: then the old one stays, and the new one isn't started again.
func (s *supervisor) recycleGone(c *child) (failed bool) {
	r := s.workers.recycling
	switch {
	case r == nil || s.stop.mode == stopNow:
		return false
	case r.old == c:
		s.recyclePassed(c, 0)
		return false
	case c.up || s.workers.slots[c.index].place != s.workers.slots[r.old.index].place:
		return false
	}
	s.workers.recycling = nil
	r.answer(r.sum, errors.New("the new worker was not ready, so the old one goes on; the log says why"))
	return true
}
