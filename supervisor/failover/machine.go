package failover

import "time"

// Machine is the failover state machine; it belongs to one goroutine.
type Machine struct{ cfg Config }

// New makes a machine; saved is nil when there is no usable record, now is the monotonic time since process start.
func New(cfg Config, saved *Record, now time.Duration) *Machine { return &Machine{cfg: cfg} }

// Step takes one event and returns what is to be done, in order.
func (m *Machine) Step(now time.Duration, ev Event) []Action { return nil }

// Deadline is the time of the next Tick wanted; false asks for none.
func (m *Machine) Deadline() (time.Duration, bool) { return 0, false }

// Status is a copy of everything an operator may ask.
func (m *Machine) Status() Status { return Status{Primary: -1} }
