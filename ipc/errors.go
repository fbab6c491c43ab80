package ipc

import (
	"errors"
	"fmt"
)

// ViolationError says that a packet breaks the rules of the catalogue. From a child this is a bug
// or an attack: the supervisor logs it, kills the child and starts it again.
type ViolationError struct {
	Number Number
	Peer   Role
	What   string
}

func (e *ViolationError) Error() string {
	return fmt.Sprintf("%s from %s: %s", Name(e.Number), e.Peer, e.What)
}

// Violation reports whether err means that the peer broke the protocol, as
// opposed to a link that ended or failed.
func Violation(err error) bool {
	var v *ViolationError
	return errors.As(err, &v)
}

// ErrQueueFull is returned by Outbox.Send when the peer doesn't read.
var ErrQueueFull = errors.New("queue of the link is full")
