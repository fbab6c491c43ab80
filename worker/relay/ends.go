package relay

// ends is the queue of ReadyForQuery messages that a server still owes: one
// byte for each Query, FunctionCall and Sync that was forwarded.
type ends struct {
	q    []byte
	head int
}

// The kinds of expected ends.
const (
	endQuery byte = 'Q' // Query or FunctionCall
	endSync  byte = 'S'
)

// push adds one. A pipeline may never come to rest: what was taken makes room.
func (e *ends) push(kind byte) {
	if e.head > len(e.q)/2 && len(e.q) == cap(e.q) {
		e.q, e.head = e.q[:copy(e.q, e.q[e.head:])], 0
	}
	e.q = append(e.q, kind)
}

func (e *ends) len() int { return len(e.q) - e.head }

// pop takes the oldest; false when there was none.
func (e *ends) pop() bool {
	if e.head == len(e.q) {
		return false
	}
	e.head++
	if e.head == len(e.q) {
		e.q, e.head = e.q[:0], 0
	}
	return true
}

// strike removes the Syncs at the front and returns how many there were: a
// server in COPY mode ignores those that were sent before it came there.
func (e *ends) strike() int {
	n := 0
	for e.len() > 0 && e.q[e.head] == endSync {
		e.pop()
		n++
	}
	return n
}

// trim gives memory back; for sessions that turn idle.
func (e *ends) trim() {
	if e.len() == 0 && cap(e.q) > 64 {
		e.q = nil
	}
}
