package logline

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
)

// ErrPanic is what is wrong with an operation that has panicked: a bug of ours.
var ErrPanic = errors.New("internal error, the log has the stack")

// Recovered logs a panic with its stack, a line for each of the stack's, and returns
// it as an error. It is called where recover has returned p.
func Recovered(log *slog.Logger, p any) error {
	log.Error("internal error", "panic", p)
	for line := range strings.Lines(string(debug.Stack())) {
		log.Error("stack", "at", strings.TrimSpace(line))
	}
	return fmt.Errorf("%w: %v", ErrPanic, p)
}
