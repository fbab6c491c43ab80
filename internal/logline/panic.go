package logline

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
)

// ErrPanic is the error of an operation that has panicked, which is a bug in pgagroal.
var ErrPanic = errors.New("internal error, the log has the stack")

// Guarded calls work. If work panics, Guarded logs the panic with its stack and returns it
// as the error, so that only this operation fails and the process continues.
func Guarded(log *slog.Logger, work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Recovered(log, p)
		}
	}()
	return work()
}

// Recovered logs a panic and its stack, one log line per line of the stack, and returns
// the panic as an error. p is the result of recover.
func Recovered(log *slog.Logger, p any) error {
	log.Error("internal error", "panic", p)
	stack := Unlimited(log)
	for line := range strings.Lines(string(debug.Stack())) {
		stack.Error("stack", "at", strings.TrimSpace(line))
	}
	return fmt.Errorf("%w: %v", ErrPanic, p)
}
