package logline

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
)

// ErrPanic is the error of an operation that has panicked, which is a bug of ours.
var ErrPanic = errors.New("internal error, the log has the stack")

// Recovered logs a panic with its stack, one log line for each line of it, and returns
// it as an error. p is the result of recover.
func Recovered(log *slog.Logger, p any) error {
	log.Error("internal error", "panic", p)
	for line := range strings.Lines(string(debug.Stack())) {
		log.Error("stack", "at", strings.TrimSpace(line))
	}
	return fmt.Errorf("%w: %v", ErrPanic, p)
}
