package worker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestDelayGrowsWithFailuresInARowUpToABound(t *testing.T) {
	x, now, p := newGuesses(), time.Now(), origin("192.0.2.1:5000")
	for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if got := x.of(p, now).fail(time.Second, now); got != want*time.Second {
			t.Errorf("failure %d: %v, want %ds", i, got, want)
		}
	}
	if got := x.of(origin("192.0.2.2:5000"), now).fail(time.Second, now); got != time.Second {
		t.Errorf("another address waits %v", got)
	}
	now = now.Add(8*time.Second + rowEnds - 1)
	if got := x.of(p, now).fail(time.Second, now); got != 8*time.Second {
		t.Errorf("within a minute after the last answer: %v", got)
	}
	now = now.Add(8*time.Second + rowEnds)
	if got := x.of(p, now).fail(time.Second, now); got != time.Second {
		t.Errorf("after the row: %v", got)
	}
}

func TestOneOriginOfGuesses(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:1":           "192.0.2.1/32",
		"[::ffff:192.0.2.1]:2":  "192.0.2.1/32",
		"[2001:db8:0:1::5]:3":   "2001:db8:0:1::/64",
		"[2001:db8:0:1:ff::]:4": "2001:db8:0:1::/64",
		"[fe80::1%lo]:5":        "fe80::/64",
	} {
		if got := origin(addr); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %v, want %s", addr, got, want)
		}
	}
	if got := origin(""); got != (netip.Prefix{}) {
		t.Errorf("a Unix socket: %v", got)
	}
}

func TestAddressesOfGuessesAreBounded(t *testing.T) {
	x, now, p := newGuesses(), time.Now(), origin("192.0.2.1:5000")
	x.of(p, now).fail(time.Second, now)
	for i := range 5 * maxGuessers {
		x.of(origin(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)), now)
		if n := len(x.young) + len(x.old); n > 2*maxGuessers {
			t.Fatalf("%d addresses", n)
		}
		if i%1000 == 0 && x.of(p, now).failures != 1 {
			t.Fatal("an address in use is forgotten")
		}
	}
	for i := range 2*maxGuessers + 1 {
		x.of(origin(fmt.Sprintf("11.%d.%d.%d:1", i>>16, i>>8&255, i&255)), now)
	}
	if x.of(p, now).failures != 0 {
		t.Error("an address that isn't used is kept")
	}
}

// newGuessRig starts a worker whose answers to wrong passwords take longer than the test.
func newGuessRig(t *testing.T) *rig {
	return newRig(t, ipc.ConfigBegin{Pipeline: "session", Timers: ipc.Timers{AuthFailureMS: time.Hour.Milliseconds()}})
}

// fail has a client of an address fail, and returns a channel that tells that its answer is due.
func (r *rig) fail(addr string) <-chan struct{} {
	due := make(chan struct{})
	r.do(func() {
		g, err := r.w.mayProve(&client{addr: addr})
		if err != nil {
			r.t.Errorf("%s: %v", addr, err)
			return
		}
		r.w.answerLate(g, func() { close(due) })
	})
	return due
}

func (r *rig) mayProve(addr string) (err error) {
	r.do(func() { _, err = r.w.mayProve(&client{addr: addr}) })
	return err
}

func TestAddressMayOnlyGuessAFewTimesAtOnce(t *testing.T) {
	r := newGuessRig(t)
	for range 3 * maxOpenGuesses { // nobody has failed
		if err := r.mayProve("192.0.2.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	for range maxOpenGuesses {
		r.fail("192.0.2.2:1")
	}
	if err := r.mayProve("192.0.2.2:2"); err == nil {
		t.Error("an address guesses again before its answers are due")
	}
	if err := errors.Join(r.mayProve("192.0.2.3:2"), r.mayProve("")); err != nil {
		t.Errorf("other addresses: %v", err)
	}
}

func TestLateAnswersAreBounded(t *testing.T) {
	r := newGuessRig(t)
	for i := range maxLateAnswers {
		r.fail(fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255))
	}
	wait(t, r.fail("192.0.2.1:1"), "an answer that can't wait any more")
	if err := r.mayProve("192.0.2.1:1"); err == nil {
		t.Error("an address guesses on without a delay")
	}
	if err := r.mayProve("192.0.2.2:1"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

func TestEndOfTheProcessDoesNotWaitForLateAnswers(t *testing.T) {
	r := newGuessRig(t)
	due := r.fail("192.0.2.1:1")
	select {
	case <-due:
		t.Fatal("the answer isn't late")
	default:
	}
	r.send(&ipc.Drain{})
	wait(t, due, "the answer")
	expect[*ipc.Drained](r)
	wait(t, r.fail("192.0.2.1:1"), "an answer while the process ends")
}

func TestLateAnswerEndsWithItsClient(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		var done func()
		d.awaitUnlessGone(func(f func()) { done = f; _ = writes(d, "waits") })
		if d.err == nil {
			return errors.New("it ends before its client")
		}
		done() // comes after the end
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		hear(t, conn, "waits")
		conn.Close()
	})
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		d.awaitUnlessGone(func(done func()) { d.loop.Post(done) })
		return errors.Join(d.err, writes(d, "over"))
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) { hear(t, conn, "over") })
}
