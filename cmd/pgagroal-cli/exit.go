package main

import (
	"errors"
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// exitError ends the program with a code, and with a message unless it is empty.
type exitError struct {
	code    int
	message string
	usage   bool // the message points to --help
}

func (e *exitError) Error() string { return e.message }

func usagef(format string, a ...any) error {
	return &exitError{code: control.ExitFailed, message: fmt.Sprintf(format, a...), usage: true}
}

func failedf(format string, a ...any) error {
	return &exitError{code: control.ExitFailed, message: fmt.Sprintf(format, a...)}
}

func unknownf(format string, a ...any) error {
	return &exitError{code: control.ExitUnknown, message: fmt.Sprintf(format, a...)}
}

func unreachablef(format string, a ...any) error {
	return &exitError{code: control.ExitUnreachable, message: fmt.Sprintf(format, a...)}
}

// asExit returns err as an exitError. Any error of another type comes from the
// parser of the command line.
func asExit(err error) *exitError {
	var e *exitError
	switch {
	case err == nil:
		return &exitError{}
	case errors.As(err, &e):
		return e
	}
	return &exitError{code: control.ExitFailed, message: err.Error(), usage: true}
}
