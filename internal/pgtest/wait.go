package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// pollInterval is the time between two looks at a condition: short enough to
// add nothing a test would notice, long enough to leave the processor to others.
const pollInterval = 10 * time.Millisecond

// WaitUntil returns when cond is true and fails the test when it isn't within
// limit. The failure names what was waited for and what each of state says then.
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

// Eventually returns when cond returns nil and fails the test with cond's last
// error when it doesn't within limit.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := poll(ctx, what, cond); err != nil {
		t.Fatalf("after %v: %v", limit, err)
	}
}

// poll calls cond at once and then every pollInterval until it returns nil, or a
// final error, or ctx ends. cond is called once more after the end of ctx, so
// that a slow machine can't fail a condition which has become true.
func poll(ctx context.Context, what string, cond func() error) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ended := ctx.Err() != nil
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
		case <-ticker.C:
		}
	}
}

// limited bounds a ctx that has no deadline, so that a wait for what never comes
// fails and tells what it waited for, instead of the whole test binary.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, setupLimit)
}

// finalError ends a poll early: more waiting can't help.
type finalError struct{ err error }

func (f *finalError) Error() string { return f.err.Error() }

func final(err error) error { return &finalError{err} }
