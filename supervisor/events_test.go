package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

// told has an operator ask for events.
func (x *events) told(t *testing.T, ctx context.Context, o controlsocket.EventsOrder) control.EventsResponse {
	t.Helper()
	r, err := operator{&supervisor{service: service{events: x}}}.Events(ctx, o)
	if err != nil {
		t.Error(err)
	}
	return r
}

func TestEventsAreTheLastLinesOfTheLog(t *testing.T) {
	x := newEvents(time.Now())
	log := logline.New(&bytes.Buffer{}, "", slog.LevelInfo, "supervisor")
	logline.Tap(log, x.add)
	log.Debug("not this")
	const all = eventsKept + 5
	for i := range all {
		log.Info(fmt.Sprint("event ", i+1)) // a text of its own, so that none is left out
	}
	seen := uint64(2)
	for name, tt := range map[string]struct {
		order          controlsocket.EventsOrder
		events, missed int
	}{
		"all that are kept": {events: eventsKept},
		"the last":          {controlsocket.EventsOrder{Count: 7}, 7, 0},
		"after a number":    {controlsocket.EventsOrder{After: &seen}, eventsKept, 3},
		"follow":            {controlsocket.EventsOrder{After: &seen, Follow: true}, eventsKept, 3},
		"of another run":    {controlsocket.EventsOrder{After: new(uint64(all + 1))}, eventsKept, 5},
	} {
		r := x.told(t, t.Context(), tt.order)
		if len(r.Events) != tt.events || r.Missed != uint64(tt.missed) || r.Last != all || r.Run != x.run {
			t.Errorf("%s: %d events, %d missed, the last is %d", name, len(r.Events), r.Missed, r.Last)
		}
		if last := string(r.Events[len(r.Events)-1]); !bytes.Contains([]byte(last), fmt.Appendf(nil, `"event %d"`, all)) {
			t.Errorf("%s: the last is %s", name, last)
		}
	}
}

func TestFollowersWaitForAnEvent(t *testing.T) {
	x := newEvents(time.Now())
	waiting := func(n int) func() bool {
		return func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.followers == n }
	}
	got := make(chan control.EventsResponse, maxFollowers)
	for range maxFollowers {
		go func() {
			r, err := x.follow(t.Context(), 0)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
	}
	pgtest.WaitUntil(t, limit, "followers that wait", waiting(maxFollowers))
	if _, err := x.follow(t.Context(), 0); err == nil {
		t.Error("followers can keep an operator out")
	}
	x.add([]byte(`{"message":"ready"}`))
	pgtest.WaitUntil(t, limit, "an answer for each follower", func() bool { return len(got) == maxFollowers })
	for range maxFollowers {
		if r := <-got; len(r.Events) != 1 || r.Last != 1 {
			t.Errorf("a follower gets %v", r)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() { got <- x.told(t, ctx, controlsocket.EventsOrder{After: new(uint64(1)), Follow: true}) }()
	pgtest.WaitUntil(t, limit, "a follower that waits", waiting(1))
	leave()
	if r := <-got; len(r.Events) != 0 || r.Last != 1 || !waiting(0)() {
		t.Errorf("a follower that has left gets %v", r)
	}
}
