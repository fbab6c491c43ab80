package supervisor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

// orderFlush has the supervisor flush, and each worker answer. The answer is nil if there is none.
func (w *world) orderFlush(o controlsocket.FlushOrder) *control.FlushResponse {
	var got *control.FlushResponse
	w.s.orderFlush(o, func(r control.FlushResponse, err error) {
		if err != nil {
			w.t.Error(err)
		}
		got = &r
	})
	w.settle()
	for _, f := range w.children {
		all := messagesOf[*ipc.Flush](f)
		if len(all) == 0 {
			w.t.Fatal("a worker isn't asked to flush")
		}
		w.say(f, &ipc.Flushed{ID: all[len(all)-1].ID, Marked: min(w.s.ledger.Held(0), 1)})
	}
	return got
}

func lastFlush(f *fakeChild) ipc.Flush {
	all := messagesOf[*ipc.Flush](f)
	last := *all[len(all)-1]
	last.ID = 0
	return last
}

func TestGracefulFlushEndsAtItsTimeLimit(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.FlushTimeout = time.Minute
		c.Limits = []config.Limit{{Database: config.Named("d"), User: config.Names{All: true}, MaxSize: 4, Aliases: []string{"nick"}}}
	})
	w.up()
	f := w.children[0]
	order := controlsocket.FlushOrder{Mode: controlsocket.FlushGracefully, Database: "nick"}
	if got := w.orderFlush(order); got == nil || got.Graceful != 0 {
		t.Errorf("answer: %v", got)
	}
	if d := cmp.Diff(ipc.Flush{Mode: ipc.FlushGracefully, Database: "d"}, lastFlush(f)); d != "" {
		t.Errorf("the alias isn't its database:\n%s", d)
	}
	w.live(2 * time.Minute)
	if n := len(messagesOf[*ipc.Flush](f)); n != 1 {
		t.Errorf("%d flushes although no client had a connection", n)
	}
	w.lease(f, key("u"))
	if got := w.orderFlush(order); got.Graceful != 1 {
		t.Errorf("answer: %v", got)
	}
	w.live(59 * time.Second)
	if got := lastFlush(f); got.Mode != ipc.FlushGracefully {
		t.Errorf("before the time limit: %v", got)
	}
	w.live(2 * time.Second)
	if d := cmp.Diff(ipc.Flush{Mode: ipc.FlushMarked, Database: "d"}, lastFlush(f)); d != "" {
		t.Errorf("at the time limit:\n%s", d)
	}
	order.Timeout = new(time.Duration)
	n := len(messagesOf[*ipc.Flush](f))
	w.orderFlush(order)
	w.live(time.Hour)
	if got := len(messagesOf[*ipc.Flush](f)); got != n+1 {
		t.Error("a flush without a time limit has one")
	}
}

// A backend that its worker handed over before it saw the flush arrives after the other
// worker's answer.
func TestGracefulFlushWithoutALimitTakesAnEarlierLimitBack(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	w.lease(f, key("u"))
	for _, limit := range []time.Duration{time.Minute, 0} {
		w.orderFlush(controlsocket.FlushOrder{Mode: controlsocket.FlushGracefully, Database: "d", Timeout: &limit})
	}
	w.live(2 * time.Minute)
	if got := lastFlush(f); got.Mode != ipc.FlushGracefully {
		t.Errorf("clients are disconnected at the limit of the first flush: %v", got)
	}
}

func TestBackendsBetweenTwoWorkersAreFlushedToo(t *testing.T) {
	for _, tt := range []struct {
		database string
		want     bool
	}{{"d", true}, {"", true}, {"another", false}} {
		w, m := handOverWorld(t)
		fd, _ := w.connection()
		defer unix.Close(fd)
		w.s.flush(ipc.FlushGracefully, tt.database, func(control.FlushResponse, error) {})
		w.say(w.children[0], m, fd)
		got := messagesOf[*ipc.TakeOver](w.children[1])
		if len(got) != 1 || got[0].Backend.Flushed != tt.want {
			t.Errorf("flush of %q: %d backends, and it is not %t that it is flushed", tt.database, len(got), tt.want)
		}
	}
}

func TestClearedCountersStartAtZero(t *testing.T) {
	w, console := consoleUp(t, 1)
	f := w.children[0]
	w.snapshot(console, 1)
	cleared := false
	w.s.clearFigures(func() { cleared = true })
	if cleared {
		t.Error("figures that are on their way will come back")
	}
	w.statsOf(f, 5)
	if !cleared || len(messagesOf[*ipc.StatsClear](f)) != 1 {
		t.Errorf("cleared is %t, the worker was told %d times", cleared, len(messagesOf[*ipc.StatsClear](f)))
	}
	w.die(f)
	w.advance(snapshotPause)
	f = w.children[len(w.children)-1]
	w.hello(f)
	w.snapshot(console, 2)
	w.statsOf(f, 1)
	if got := queriesIn(t, console); got != 1 {
		t.Errorf("%d queries, want that of the new worker", got)
	}
}
