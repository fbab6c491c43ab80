package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Between two checks of a condition is a pause: short enough not to matter for a test, and
// long enough to leave the CPU to others. A condition that starts a program costs more than
// that pause, so the pause grows with the time that a check takes.
const (
	pollInterval = 10 * time.Millisecond
	pollMax      = 200 * time.Millisecond
)

// WaitUntil returns when cond is true and fails the test if that takes longer than
// limit. The failure names the condition and shows the result of each state function.
func WaitUntil(t testing.TB, limit time.Duration, what string, cond func() bool, state ...func() string) {
	t.Helper()
	Eventually(t, limit, what, func() error {
		if cond() {
			return nil
		}
		seen := []string{"the condition is still false"}
		for _, s := range state {
			seen = append(seen, s())
		}
		return errors.New(strings.Join(seen, "; "))
	})
}

// Eventually returns when cond returns nil, and fails the test with cond's last error
// if that takes longer than limit.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := poll(ctx, what, cond); err != nil {
		t.Fatalf("after %v: %v", limit, err)
	}
}

// poll calls cond at once and then again after each pause until it returns nil or a final
// error, or ctx ends. It calls cond once more after the end of ctx, so that a slow
// machine can't fail a condition that has become true.
func poll(ctx context.Context, what string, cond func() error) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	for {
		ended, begun := ctx.Err() != nil, time.Now()
		err := cond()
		if err == nil {
			return nil
		}
		if f, ok := errors.AsType[*finalError](err); ok {
			return fmt.Errorf("wait for %s: %w", what, f.err)
		}
		if ended {
			return fmt.Errorf("wait for %s: %w; last state: %w", what, context.Cause(ctx), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(max(time.Since(begun), pollInterval), pollMax)):
		}
	}
}

// limited adds a time limit to a ctx without a deadline, so that an endless wait fails
// and says what it was for, rather than the whole test binary.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, setupLimit)
}

// finalError ends a poll early, because more waiting can't help.
type finalError struct{ err error }

func (f *finalError) Error() string { return f.err.Error() }

func final(err error) error { return &finalError{err} }
