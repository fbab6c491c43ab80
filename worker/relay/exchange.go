package relay

// exchange is the queue of answers that a server owes in the transaction
// pipeline: one entry for each message that it answers. A server answers in
// order, but for an error, which skips everything up to the next Sync.
type exchange struct {
	q    []owed
	head int
	// batch grows with every message that ends one: Sync, Query, FunctionCall.
	batch uint64
	// unsynced: messages of the extended protocol have gone out without a Sync.
	unsynced bool
	// skipping: an error came before its Sync was sent; until then the server
	// ignores what it gets.
	skipping bool
	// errored: an error has been passed on, and the ReadyForQuery behind it hasn't.
	errored bool
	// copying: the server takes copy data, and ignores every Sync.
	copying bool
	// partial is a message of the client's that is being collected, need its whole
	// length.
	partial []byte
	need    int
	// skip is how much is still to come of a message that goes nowhere.
	skip int
	// heldError is the beginning of an error that a chunk has ended in.
	// errorPassing: it is too long to be held back.
	heldError    []byte
	errorPassing bool
	// farewell is why the server has closed the connection, in its own words.
	farewell string
	// sets: something was executed in this batch that may change the settings
	// that a Parse depends on. The server reports them with ReadyForQuery only.
	sets bool
}

// fate says what becomes of an answer.
type fate uint8

const (
	pass    fate = iota // it is the client's
	swallow             // it answers a message of ours
	invent              // nothing was sent: we answer when it is its turn
	replace             // the server's error is replaced by ours
)

// copyEnd is the kind of an entry that isn't answered: the client's CopyDone or
// CopyFail, sent before the server has asked for data. It never comes first.
const copyEnd byte = 'c'

// owed is one answer that is still to come. kind is the type of the message that
// it answers.
type owed struct {
	kind   byte
	fate   fate
	traits traits // of what a Query or Execute runs
	// unnamed is the number of the unnamed statement that a Parse makes.
	unnamed uint64
	// on is the statement of ours that a Parse makes, a Close ends or a Bind or
	// Describe uses.
	on *onBackend
	// name is what the client calls stmt: after a Parse of it; before a Close, and
	// before a Query or unnamed Parse that deallocates it.
	name string
	stmt *statement
}

func (x *exchange) push(e owed) {
	x.copying = false // what isn't copy data makes the COPY fail
	switch e.kind {
	case 'S', 'Q', 'F':
		x.batch++
		x.unsynced = false
	case copyEnd:
	default:
		x.unsynced = true
	}
	if x.head > len(x.q)/2 && len(x.q) == cap(x.q) {
		n := copy(x.q, x.q[x.head:])
		clear(x.q[n:])
		x.q, x.head = x.q[:n], 0
	}
	x.q = append(x.q, e)
}

func (x *exchange) len() int { return len(x.q) - x.head }

// first returns the oldest entry, nil when nothing is owed.
func (x *exchange) first() *owed {
	if x.head == len(x.q) {
		return nil
	}
	return &x.q[x.head]
}

// last returns the newest entry.
func (x *exchange) last() *owed { return &x.q[len(x.q)-1] }

// ends reports whether a statement of the client's ends with it.
func (e *owed) ends() bool { return e.stmt != nil && (e.kind != 'P' || e.unnamed != 0) }

// pop takes the oldest entry away, and what the server ignores behind it.
func (x *exchange) pop() {
	for {
		x.q[x.head] = owed{}
		x.head++
		if x.head == len(x.q) {
			x.q, x.head = x.q[:0], 0
			return
		}
		if x.q[x.head].kind != copyEnd {
			return
		}
	}
}

// copyIn is the server's request for copy data. It ignores the Syncs that were
// sent before the data's end; libpq sends one together with the Execute. What
// else was sent before the end makes the COPY fail.
func (x *exchange) copyIn() {
	from := x.head + 1
	to := from
	for to < len(x.q) && x.q[to].kind == 'S' {
		to++
	}
	if x.copying = to == len(x.q); !x.copying && x.q[to].kind == copyEnd {
		to++
	}
	n := from + copy(x.q[from:], x.q[to:])
	clear(x.q[n:])
	x.q = x.q[:n]
	for n--; x.q[n].kind == copyEnd; n-- {
	}
	switch x.q[n].kind {
	case 'S', 'Q', 'F':
	default:
		x.unsynced = true
	}
}

// ends reports whether the end of a batch is unanswered.
func (x *exchange) ends() bool {
	for i := x.head; i < len(x.q); i++ {
		switch x.q[i].kind {
		case 'S', 'Q', 'F':
			return true
		}
	}
	return false
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

// pending returns the unanswered Parse that gives a statement its name, nil for
// none.
func (x *exchange) pending(name string, s *statement) *owed {
	for i := x.head; i < len(x.q); i++ {
		if e := &x.q[i]; e.stmt == s && e.name == name && !e.ends() {
			return e
		}
	}
	return nil
}

// idle reports whether the server has answered everything and waits for nothing.
func (x *exchange) idle() bool { return x.len() == 0 && !x.unsynced }

// rest ends a transaction: the exchange is idle. It gives memory back.
func (x *exchange) rest() {
	x.skipping, x.errored, x.copying, x.sets = false, false, false, false
	if x.len() == 0 && cap(x.q) > 64 {
		x.q = nil
	}
}
