package supervisor

import (
	"context"
	"log/slog"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// actions are the machine's orders. They are carried out strictly in this order.
type actions struct {
	queue   []failover.Action
	running bool // execute is already running further up the stack
}

// execute carries out the queue until it is empty or a Save must become durable first.
// An event that an action causes at once appends its own actions to the queue.
func (s *supervisor) execute() {
	if s.actions.running {
		return
	}
	s.actions.running = true
	defer func() { s.actions.running = false }()
	for len(s.actions.queue) > 0 && !s.saver.barrier {
		a := s.actions.queue[0]
		s.actions.queue = s.actions.queue[1:]
		s.do(a)
	}
}

// do carries out one action.
func (s *supervisor) do(a failover.Action) {
	switch a := a.(type) {
	case failover.Probe:
		s.probe(a)
	case failover.AskActivity:
		s.askActivity(a.Server)
	case failover.Save:
		s.save(a)
	case failover.Publish:
		s.publish(a.Snapshot)
	case failover.Fence:
		s.startFence(a)
	case failover.Quiesce:
		s.quiesce(a)
	case failover.StartRun:
		s.startRun(a)
	case failover.StopRun:
		s.stopRun(a)
	case failover.Reply:
		s.reply(a)
	case failover.Log:
		s.logMachine(a)
	case failover.History:
		s.record(a.Entry)
	}
}

// reply answers the command that has this tag.
func (s *supervisor) reply(a failover.Reply) {
	if f := s.servers.replies[a.Tag]; f != nil {
		delete(s.servers.replies, a.Tag)
		f(a)
	}
}

var machineLevels = map[failover.Level]slog.Level{
	failover.Debug: slog.LevelDebug, failover.Info: slog.LevelInfo,
	failover.Warn: slog.LevelWarn, failover.Error: slog.LevelError,
}

func (s *supervisor) logMachine(a failover.Log) {
	fields := make([]any, 0, 2*len(a.Attrs))
	for _, f := range a.Attrs {
		fields = append(fields, f.Key, f.Value)
	}
	logline.Unlimited(s.log).Log(context.Background(), machineLevels[a.Level], a.Msg, fields...)
}
