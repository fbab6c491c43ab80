package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// freshFor is how old a snapshot may be without another one being asked for.
	freshFor = time.Second
	// snapshotLimit is how long a client waits for a snapshot: a pause of a second that the
	// supervisor makes between two of them, and the time that workers have to answer.
	snapshotLimit = 3 * time.Second
	// historyKept is how many entries of the history are kept.
	historyKept = 200
)

// snapshot is what the supervisor has said at one time.
type snapshot struct {
	taken     time.Time // when it began to arrive
	begin     *ipc.SnapshotBegin
	servers   []*ipc.SnapshotServer
	limits    []*ipc.SnapshotLimit
	processes []*ipc.SnapshotProcess
	workers   map[int]*ipc.WorkerStats // -1 is those that have died
	document  []byte                   // the JSON object for the web page, empty if there is none
	history   []json.RawMessage        // the oldest first
	historyTo uint64                   // the number of the last one
	items     int
	// begun is closed when begin is there, whole when the rest is there, too.
	begun, whole chan struct{}
}

// feed asks for snapshots and hands them out. The reader of the link calls take; clients
// call facts and snapshot.
type feed struct {
	log      *slog.Logger
	send     func(ipc.Message) error
	sessions bool // snapshots list all backends
	page     bool // snapshots have what the web page shows

	mu     sync.Mutex
	nextID uint64
	last   *snapshot // the last one that is complete, nil for none
	coming *snapshot // was asked for, nil for none
	bad    map[int]bool

	history   []json.RawMessage // entries of all snapshots, which are never changed in place
	historyTo uint64            // the number of the last one
}

func newFeed(log *slog.Logger, send func(ipc.Message) error, sessions bool) *feed {
	return &feed{log: log, send: send, sessions: sessions, bad: map[int]bool{}}
}

var errLate = errors.New("the supervisor doesn't answer")

// facts returns a snapshot of which at least begin is there. It doesn't wait for workers.
func (f *feed) facts(ctx context.Context) (*ipc.SnapshotBegin, error) {
	s, err := f.fresh()
	if err != nil {
		return nil, err
	}
	if err := await(ctx, s.begun); err != nil {
		return nil, err
	}
	return s.begin, nil
}

// snapshot returns a complete snapshot that is a second old at most.
func (f *feed) snapshot(ctx context.Context) (*snapshot, error) {
	s, err := f.fresh()
	if err != nil {
		return nil, err
	}
	return s, await(ctx, s.whole)
}

func await(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errLate
	}
}

// fresh returns the last snapshot if it is fresh, or else the one that is coming. Everybody
// who looks meanwhile waits for the same one.
func (f *feed) fresh() (*snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.coming != nil {
		return f.coming, nil
	}
	if f.last != nil && time.Since(f.last.taken) < freshFor {
		return f.last, nil
	}
	f.nextID++
	if err := f.send(&ipc.SnapshotRequest{ID: f.nextID, Sessions: f.sessions, Page: f.page, History: f.historyTo, Logged: logline.Lines(f.log)}); err != nil {
		return nil, fmt.Errorf("ask for a snapshot: %w", err)
	}
	f.coming = &snapshot{workers: map[int]*ipc.WorkerStats{}, begun: make(chan struct{}), whole: make(chan struct{})}
	return f.coming, nil
}

// take takes one message of the supervisor.
func (f *feed) take(m ipc.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.coming
	begin, first := m.(*ipc.SnapshotBegin)
	if s == nil || first != (s.begin == nil) {
		return fmt.Errorf("%s at the wrong time", ipc.Name(m.Number()))
	}
	if first {
		s.begin, s.taken = begin, time.Now()
		close(s.begun)
		return nil
	}
	s.items++
	switch m := m.(type) {
	case *ipc.SnapshotServer:
		s.servers = append(s.servers, m)
	case *ipc.SnapshotLimit:
		s.limits = append(s.limits, m)
	case *ipc.SnapshotProcess:
		s.processes = append(s.processes, m)
	case *ipc.SnapshotStats:
		f.takeStats(s, m)
	case *ipc.SnapshotDocument:
		s.document = append(s.document, m.Part...)
	case *ipc.SnapshotHistory:
		f.takeHistory(m)
	case *ipc.SnapshotEnd:
		if m.Items != s.items-1 {
			return fmt.Errorf("a snapshot of %d items instead of %d", s.items-1, m.Items)
		}
		s.history, s.historyTo = f.history, f.historyTo
		f.last, f.coming = s, nil
		close(s.whole)
	}
	return nil
}

// takeHistory adds an entry of the history, and forgets the oldest one of too many.
func (f *feed) takeHistory(m *ipc.SnapshotHistory) {
	kept := slices.Clone(f.history[max(0, len(f.history)-historyKept+1):])
	f.history, f.historyTo = append(kept, json.RawMessage(m.Entry)), m.Index
}

// takeStats adds a part of a worker's figures. A worker that sends nonsense is left out: it
// may be taken over, and what it says concerns only what is shown of it.
func (f *feed) takeStats(s *snapshot, m *ipc.SnapshotStats) {
	var part ipc.WorkerStats
	if err := m.Part.Unpack(&part); err != nil {
		if !f.bad[m.Worker] {
			f.bad[m.Worker] = true
			f.log.Error("the figures of a worker can't be read, and are left out", "worker", m.Worker, "error", err)
		}
		return
	}
	w := s.workers[m.Worker]
	if w == nil {
		w = &ipc.WorkerStats{Gauges: map[string]int64{}}
		s.workers[m.Worker] = w
	}
	part.Bound(s.slots())
	w.Add(&part)
	for name, v := range part.Gauges {
		w.Gauges[name] += v
	}
	for _, p := range part.Pools {
		if p.Server == -1 || s.serverName(p.Server) != "" { // otherwise it is no server, and would have the same labels as another one
			p.Database, p.User = strings.ToValidUTF8(p.Database, "?"), strings.ToValidUTF8(p.User, "?")
			w.Pools = append(w.Pools, p)
		}
	}
	w.Backends = append(w.Backends, part.Backends...)
}
