package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
)

// stopping is a world with a client, which ends as the keys say.
func stopping(t *testing.T, mode string, delay, limit time.Duration) *world {
	t.Helper()
	w := newWorld(t, 1, func(c *config.Config) { c.ShutdownMode, c.ShutdownDelay, c.FlushTimeout = mode, delay, limit })
	w.up()
	w.arrive()
	return w
}

// turnsAway reports whether the worker has been told to refuse new clients.
func (w *world) turnsAway() bool {
	states := messagesOf[*ipc.ServerState](w.children[0])
	return len(states) > 0 && states[len(states)-1].Graceful
}

func TestSIGTERMEndsAsShutdownModeSays(t *testing.T) {
	for _, tt := range []struct {
		mode string
		now  stopMode
	}{{config.ShutdownImmediate, stopNow}, {config.ShutdownGracefully, stopGraceful}} {
		w := stopping(t, tt.mode, 0, time.Minute)
		w.s.onSignal(syscall.SIGTERM)
		if w.s.stop.mode != tt.now || w.turnsAway() != (tt.now == stopGraceful) {
			t.Errorf("%s: mode %d, refuses %v", tt.mode, w.s.stop.mode, w.turnsAway())
		}
		if !slices.Contains(w.notified, "STOPPING=1") {
			t.Errorf("%s: the service manager doesn't know", tt.mode)
		}
		w.live(50 * time.Second)
		if tt.now == stopGraceful && w.s.stop.mode != stopGraceful {
			t.Error("it doesn't wait for flush_timeout")
		}
		w.live(20 * time.Second)
		if w.s.stop.mode != stopNow {
			t.Errorf("%s: it waits longer than flush_timeout", tt.mode)
		}
	}
}

func TestASecondSIGTERMIsImmediate(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Minute} {
		w := stopping(t, config.ShutdownGracefully, delay, time.Minute)
		w.s.onSignal(syscall.SIGTERM)
		if w.s.stop.mode == stopNow {
			t.Fatal("the first is immediate")
		}
		w.s.onSignal(syscall.SIGTERM)
		if w.s.stop.mode != stopNow {
			t.Errorf("delay %v: mode %d after a second one", delay, w.s.stop.mode)
		}
		w.s.onSignal(syscall.SIGTERM)
		if !w.children[0].killed {
			t.Error("a third one doesn't kill the workers")
		}
	}
}

func TestReadinessFailsBeforeTheFirstClientIsTurnedAway(t *testing.T) {
	for _, tt := range []struct {
		mode string
		next stopMode
	}{{config.ShutdownImmediate, stopNow}, {config.ShutdownGracefully, stopGraceful}} {
		w := stopping(t, tt.mode, 10*time.Second, time.Minute)
		w.s.onSignal(syscall.SIGTERM)
		if why := w.s.notReady(w.machine.status); !strings.Contains(why, "shutting down") {
			t.Errorf("%s: not ready because of %q", tt.mode, why)
		}
		w.live(9 * time.Second)
		if w.s.stop.mode != stopDelayed || w.turnsAway() || !w.s.clients.gate.IsOpen() {
			t.Errorf("%s: mode %d, clients are refused %v", tt.mode, w.s.stop.mode, w.turnsAway())
		}
		w.live(2 * time.Second)
		if w.s.stop.mode != tt.next {
			t.Errorf("%s: mode %d after the delay", tt.mode, w.s.stop.mode)
		}
	}
}

func TestSIGINTAndImmediateDoNotWaitForTheDelay(t *testing.T) {
	for _, end := range []func(w *world){
		func(w *world) { w.s.onSignal(syscall.SIGINT) },
		func(w *world) {
			if _, err := w.s.shutdownBy(control.ShutdownImmediate, nil); err != nil {
				t.Error(err)
			}
			w.advance(time.Millisecond)
		},
	} {
		w := stopping(t, config.ShutdownGracefully, time.Minute, time.Minute)
		end(w)
		if w.s.stop.mode != stopNow {
			t.Errorf("mode %d", w.s.stop.mode)
		}
	}
}

func TestOnlyTheCommandsShutdownCanBeCancelled(t *testing.T) {
	w := stopping(t, config.ShutdownGracefully, 10*time.Second, time.Minute)
	if _, err := w.s.shutdownBy(control.ShutdownGraceful, nil); err != nil {
		t.Fatal(err)
	}
	w.live(5 * time.Second)
	if w.s.stop.mode != stopDelayed || slices.Contains(w.notified, "STOPPING=1") {
		t.Fatalf("mode %d, told %q", w.s.stop.mode, w.notified)
	}
	if _, err := w.s.shutdownBy(control.ShutdownCancel, nil); err != nil || w.s.notReady(w.machine.status) == "pgagroal is shutting down" {
		t.Errorf("%v", err)
	}
	w.live(time.Minute)
	if w.s.stop.mode != stopNot {
		t.Fatal("not cancelled")
	}
	w.s.onSignal(syscall.SIGTERM)
	if _, err := w.s.shutdownBy(control.ShutdownCancel, nil); err == nil {
		t.Error("cancelled, and the service manager kills it later")
	}
}

// An unlimited shutdown of the command gets the limit of the signal's.
func TestSIGTERMLimitsAGracefulShutdownUnderWay(t *testing.T) {
	w := stopping(t, config.ShutdownGracefully, 0, time.Minute)
	unlimited := time.Duration(0)
	if _, err := w.s.shutdownBy(control.ShutdownGraceful, &unlimited); err != nil {
		t.Fatal(err)
	}
	w.live(5 * time.Minute)
	w.s.onSignal(syscall.SIGTERM)
	if w.s.stop.mode != stopGraceful {
		t.Fatalf("mode %d", w.s.stop.mode)
	}
	w.live(2 * time.Minute)
	if w.s.stop.mode != stopNow {
		t.Error("it has no limit")
	}
}

// While clients are waited for, the service manager is asked for more time; a shutdown that
// is late although nothing is waited for gets none.
func TestAShutdownThatWaitsAsksForMoreTime(t *testing.T) {
	w := stopping(t, config.ShutdownGracefully, 10*time.Second, 0)
	asked := func() (n int) {
		for _, line := range w.notified {
			if line == "EXTEND_TIMEOUT_USEC=30000000" {
				n++
			}
		}
		return n
	}
	w.s.onSignal(syscall.SIGTERM)
	w.live(2 * time.Minute)
	n := asked()
	if n < 12 || n > 14 {
		t.Errorf("asked %d times in two minutes", n)
	}
	w.s.onSignal(syscall.SIGTERM)
	w.live(2 * time.Minute)
	if asked() > n {
		t.Errorf("asked %d times more while nothing is waited for", asked()-n)
	}
}

// What the command and status say of a shutdown is what happens next.
func TestAShutdownSaysWhatHappensNext(t *testing.T) {
	const in, none, end = "new clients are let in for %s more, so that load balancers notice; then", "no new client is let in, and pgagroal ends when the last client has left", "; who is still there %s later is disconnected"
	w := stopping(t, config.ShutdownImmediate, 10*time.Second, time.Minute)
	if r := w.s.statusResponse(&report{}); r.Shutdown != nil {
		t.Errorf("a pgagroal that runs says %q", r.Shutdown.Next)
	}
	check := func(when string, final bool, want string) {
		t.Helper()
		r := w.s.statusResponse(&report{}).Shutdown
		if r == nil || r.Next != want || r.Final != final || w.turnsAway() != strings.HasPrefix(want, none) {
			t.Errorf("%s: status says %+v, want %q; it turns clients away: %v", when, r, want, w.turnsAway())
		}
	}
	order := func(timeout *time.Duration, want string) {
		t.Helper()
		r, err := w.s.shutdownBy(control.ShutdownGraceful, timeout)
		if err != nil || r.Next != want {
			t.Errorf("%v, the command says %q, want %q", err, r.Next, want)
		}
		w.live(2 * time.Second)
	}
	unlimited := time.Duration(0)
	order(nil, fmt.Sprintf(in, "10s")+" "+none+fmt.Sprintf(end, "1m0s"))
	check("during the delay", false, fmt.Sprintf(in, "8s")+" "+none+fmt.Sprintf(end, "1m0s"))
	order(&unlimited, fmt.Sprintf(in, "8s")+" "+none)
	check("with another limit", false, fmt.Sprintf(in, "6s")+" "+none)
	w.live(7 * time.Second)
	check("after the delay", false, none)
	order(nil, "a shutdown is under way already: "+none)
	if _, err := w.s.shutdownBy(control.ShutdownCancel, nil); err != nil {
		t.Fatal(err)
	}
	w.s.onSignal(syscall.SIGTERM)
	w.live(time.Second)
	check("after SIGTERM", true, fmt.Sprintf(in, "9s")+" every client is disconnected")
	w.live(10 * time.Second)
	if w.s.stop.mode != stopNow {
		t.Errorf("mode %d", w.s.stop.mode)
	}
}

func TestAGracefulShutdownSaysHowLongItWaits(t *testing.T) {
	w := stopping(t, config.ShutdownImmediate, 0, time.Minute)
	if _, err := w.s.shutdownBy(control.ShutdownGraceful, nil); err != nil {
		t.Fatal(err)
	}
	w.live(20 * time.Second)
	if got := w.s.statusResponse(&report{}).Shutdown.Next; !strings.HasSuffix(got, "; who is still there 40s later is disconnected") {
		t.Errorf("after 20 s of a minute: %q", got)
	}
}
