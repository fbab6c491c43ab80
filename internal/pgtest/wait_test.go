package pgtest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorder is a testing.TB that keeps a fatal failure to itself.
type recorder struct {
	testing.TB
	fatal string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fatalOf returns the message that f fails its test with, "" when it doesn't.
func fatalOf(f func(testing.TB)) string {
	r, ended := &recorder{}, make(chan struct{})
	go func() {
		defer close(ended)
		f(r)
	}()
	<-ended
	return r.fatal
}

func TestWaitUntilReturnsOnceTheConditionHolds(t *testing.T) {
	calls := 0
	WaitUntil(t, generous, "the third call", func() bool { calls++; return calls == 3 })
	if calls != 3 {
		t.Errorf("called %d times, want 3", calls)
	}
}

func TestWaitUntilFailsWithTheLastState(t *testing.T) {
	calls := 0
	message := fatalOf(func(t testing.TB) {
		WaitUntil(t, 3*pollInterval, "the impossible", func() bool { calls++; return false },
			func() string { return fmt.Sprintf("call %d", calls) })
	})
	for _, want := range []string{"the impossible", fmt.Sprintf("call %d", calls)} {
		if !strings.Contains(message, want) {
			t.Errorf("message %q doesn't hold %q", message, want)
		}
	}
}

func TestEventuallyFailsWithTheLastError(t *testing.T) {
	message := fatalOf(func(t testing.TB) {
		Eventually(t, time.Nanosecond, "good weather", func() error { return errors.New("rain") })
	})
	if !strings.Contains(message, "good weather") || !strings.Contains(message, "rain") {
		t.Errorf("message %q holds neither what was waited for nor why it isn't there", message)
	}
}

func TestConditionThatHoldsAfterTheLimitIsNoFailure(t *testing.T) {
	message := fatalOf(func(t testing.TB) {
		Eventually(t, time.Nanosecond, "the last look", func() error { return nil })
	})
	if message != "" {
		t.Errorf("failed with %q", message)
	}
}
