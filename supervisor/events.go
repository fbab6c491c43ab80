package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

const (
	// eventsKept is how many events are kept for pgagroal-cli. A line has 2 KiB at most.
	eventsKept = 1000
	// maxFollowers is how many clients of the control socket may wait for an event: half of its
	// places, so that followers can't keep an operator out.
	maxFollowers = controlsocket.MaxClients / 2
)

var errFollowers = errors.New("too many clients follow events already")

// events are the last lines of this process's log at info and above, whatever log_level is. Each
// goroutine that logs adds to them, and those of the control socket read: mu guards all fields.
// Nobody waits for a reader. One that is too slow is told how many events it has missed.
type events struct {
	run string

	mu        sync.Mutex
	kept      []json.RawMessage
	last      uint64        // number of the last event
	news      chan struct{} // closed and replaced with each event
	followers int
}

func newEvents(start time.Time) *events {
	return &events{run: strconv.FormatInt(start.UnixNano(), 36), news: make(chan struct{})}
}

// add adds a line, which must not be changed any more.
func (x *events) add(line []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.kept) == eventsKept {
		x.kept[0] = nil
		x.kept = x.kept[1:]
	}
	x.kept = append(x.kept, line)
	x.last++
	close(x.news)
	x.news = make(chan struct{})
}

// after returns the events with a number above n. A number that there has never been, as of another
// run, stands for 0.
func (x *events) after(n uint64) control.EventsResponse {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.afterLocked(n)
}

func (x *events) afterLocked(n uint64) control.EventsResponse {
	if n > x.last {
		n = 0
	}
	gone := x.last - uint64(len(x.kept))
	r := control.EventsResponse{Last: x.last, Run: x.run}
	if n < gone {
		r.Missed, n = gone-n, gone
	}
	r.Events = slices.Clone(x.kept[n-gone:])
	return r
}

// recent returns the last n events, all that are kept for 0.
func (x *events) recent(n int) control.EventsResponse {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n == 0 || n > len(x.kept) {
		n = len(x.kept)
	}
	return x.afterLocked(x.last - uint64(n))
}

// follow is after, but it waits until there is an event or ctx ends.
func (x *events) follow(ctx context.Context, n uint64) (control.EventsResponse, error) {
	x.mu.Lock()
	if n != x.last {
		defer x.mu.Unlock()
		return x.afterLocked(n), nil
	}
	if x.followers >= maxFollowers {
		x.mu.Unlock()
		return control.EventsResponse{}, errFollowers
	}
	x.followers++
	news := x.news
	x.mu.Unlock()
	select {
	case <-news:
	case <-ctx.Done():
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.followers--
	return x.afterLocked(n), nil
}

// Events returns what has happened lately. The loop has no part in it.
func (o operator) Events(ctx context.Context, order controlsocket.EventsOrder) (control.EventsResponse, error) {
	x := o.s.service.events
	switch {
	case order.After == nil:
		return x.recent(order.Count), nil
	case !order.Follow:
		return x.after(*order.After), nil
	}
	ctx, cancel := context.WithTimeout(ctx, control.FollowWait)
	defer cancel()
	return x.follow(ctx, *order.After)
}
