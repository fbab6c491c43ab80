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

// push adds an end. A pipeline may never come to rest, so push reuses the room of
// the ends that were popped.
func (e *ends) push(kind byte) {
	if e.head > len(e.q)/2 && len(e.q) == cap(e.q) {
		e.q, e.head = e.q[:copy(e.q, e.q[e.head:])], 0
	}
	e.q = append(e.q, kind)
}

func (e *ends) len() int { return len(e.q) - e.head }

// pop removes the oldest end; it returns false when there is none.
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

// strike removes the Syncs at the front and returns their number: a server that
// enters COPY mode ignores the Syncs that were sent before.
func (e *ends) strike() int {
	n := 0
	for e.len() > 0 && e.q[e.head] == endSync {
		e.pop()
		n++
	}
	return n
}

// trim frees memory when nothing is owed.
func (e *ends) trim() {
	if e.len() == 0 && cap(e.q) > 64 {
		e.q = nil
	}
}
