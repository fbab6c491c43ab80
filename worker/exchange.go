package worker

// exchange is the queue of answers that a server owes in the transaction
// pipeline: one entry for each message that it answers. A server answers in
// order, but for an error, which skips everything up to the next Sync.
type exchange struct {
	q    []owed
	head int
}

// fate says what becomes of an answer.
type fate uint8

const (
	pass    fate = iota // it is the client's
	swallow             // it answers a message of ours
	invent              // nothing was sent: we answer when it is its turn
)

// owed is one answer that is still to come. kind is the type of the message that
// it answers.
type owed struct {
	kind byte
	fate fate
	// stmt is the statement that a Parse makes, name what the client calls it.
	stmt *statement
	name string
}

func (x *exchange) push(kind byte, f fate) { x.q = append(x.q, owed{kind: kind, fate: f}) }

func (x *exchange) pushParse(f fate, s *statement, name string) {
	x.q = append(x.q, owed{'P', f, s, name})
}

func (x *exchange) len() int { return len(x.q) - x.head }

// first returns the oldest entry, nil when nothing is owed.
func (x *exchange) first() *owed {
	if x.head == len(x.q) {
		return nil
	}
	return &x.q[x.head]
}

func (x *exchange) pop() {
	x.q[x.head] = owed{}
	x.head++
	if x.head == len(x.q) {
		x.q, x.head = x.q[:0], 0
	}
}

// unsync removes the Syncs behind the first entry: a server that comes into COPY
// mode ignores those that were sent before. It reports whether only Syncs were
// there; otherwise what is answered can't be told any more.
func (x *exchange) unsync() bool {
	for _, e := range x.q[x.head+1:] {
		if e.kind != 'S' {
			return false
		}
	}
	clear(x.q[x.head+1:])
	x.q = x.q[:x.head+1]
	return true
}

// executes reports whether an unanswered message may end a transaction.
func (x *exchange) executes() bool {
	for _, e := range x.q[x.head:] {
		switch e.kind {
		case 'S', 'Q', 'F', 'E':
			return true
		}
	}
	return false
}

// trim gives memory back; for backends that go back to the shelf.
func (x *exchange) trim() {
	if x.len() == 0 && cap(x.q) > 64 {
		x.q = nil
	}
}
