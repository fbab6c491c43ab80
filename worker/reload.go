package worker

import (
	"errors"
	"log/slog"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A configuration arrives in many messages, and in two steps. When it is complete, the worker
// makes ready everything that could fail, and answers; from then on to put it in effect is
// an assignment. So either all workers get a new configuration or none does.

// incoming is a configuration that isn't in effect: draft while messages are missing, then
// pending.
type incoming struct {
	draft   *draft
	pending *config
	bounds  *bounds
}

var errNoDraft = errors.New("part of a configuration that hasn't begun")

// onConfig handles one message of a configuration. It returns the configuration once all
// messages have come.
func (w *worker) onConfig(m ipc.Message) (*config, error) {
	if begin, ok := m.(*ipc.ConfigBegin); ok {
		w.draft = newDraft(begin)
		return nil, nil
	}
	if w.draft == nil {
		return nil, errNoDraft
	}
	if end, ok := m.(*ipc.ConfigEnd); ok {
		return w.draft.finish(end, w.cfg)
	}
	return nil, w.draft.add(m)
}

// onReload handles one message of a configuration that arrives while the worker serves
// clients. The supervisor learns when the configuration can be put in effect, or why not.
func (w *worker) onReload(m ipc.Message) {
	next, err := w.onConfig(m)
	switch {
	case next == nil && err == nil:
		return
	case errors.Is(err, errNoDraft): // the rest of a configuration that was dropped
		return
	}
	if err == nil {
		err = w.bounds.misses(next)
	}
	done := &ipc.ConfigDone{Gen: w.draft.cfg.Gen, Reactor: w.loop.Name()}
	if err != nil {
		next, done.Error = nil, err.Error()
	}
	w.draft, w.pending = nil, next
	w.send(done)
}

// onConfigCommit puts the pending configuration in effect, or drops it.
func (w *worker) onConfigCommit(m *ipc.ConfigCommit) {
	next := w.pending
	w.pending, w.draft = nil, nil
	if next == nil || next.Gen != m.Gen {
		return
	}
	w.putInEffect(next)
	w.setTimers()
	w.secrets.forget()
}

// onLog continues with a log that the supervisor has opened, or another style of lines.
func (w *worker) onLog(m *ipc.WorkerLog, fds []int) {
	l := m.Log
	logline.Follow(w.log, logline.Settings{Kind: logline.Kind(l.Kind), Level: slog.Level(l.Level), Prefix: l.Prefix, JSON: l.JSON}, fds)
}

func (w *worker) putInEffect(c *config) {
	w.cfg = c
	w.lastByte = append(w.lastByte, make([]time.Time, max(0, c.slots()-len(w.lastByte)))...)
	w.stored.reconfigured(c.AuthQuery.On)
	c.verifiers.Replace(c.entries)
	w.shelf.Limits = shelfLimits(&c.ConfigBegin, c.keep)
}
