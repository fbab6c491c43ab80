package relay

// Exchange is the queue of answers that a server owes in the transaction
// pipeline: one entry for each message that it answers. A server answers in
// order, but for an error, which skips everything up to the next Sync.
type Exchange struct {
	q    []owed
	head int
	// batch grows with every message that ends one: Sync, Query, FunctionCall.
	batch uint64
	// Unsynced: messages of the extended protocol have gone out without a Sync.
	Unsynced bool
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
	Need    int
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
	Invent              // nothing was sent: we answer when it is its turn
	replace             // the server's error is replaced by ours
)

// copyEnd is the kind of an entry that isn't answered: the client's CopyDone or
// CopyFail, sent before the server has asked for data. It never comes first.
const copyEnd byte = 'c'

// owed is one answer that is still to come. kind is the type of the message that
// it answers.
type owed struct {
	kind   byte
	Fate   fate
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

func (x *Exchange) push(e owed) {
	x.copying = false // what isn't copy data makes the COPY fail
	switch e.kind {
	case 'S', 'Q', 'F':
		x.batch++
		x.Unsynced = false
	case copyEnd:
	default:
		x.Unsynced = true
	}
	if x.head > len(x.q)/2 && len(x.q) == cap(x.q) {
		n := copy(x.q, x.q[x.head:])
		clear(x.q[n:])
		x.q, x.head = x.q[:n], 0
	}
	x.q = append(x.q, e)
}

func (x *Exchange) len() int { return len(x.q) - x.head }

// First returns the oldest entry, nil when nothing is owed.
func (x *Exchange) First() *owed {
	if x.head == len(x.q) {
		return nil
	}
	return &x.q[x.head]
}

// last returns the newest entry.
func (x *Exchange) last() *owed { return &x.q[len(x.q)-1] }

// ends reports whether a statement of the client's ends with it.
func (e *owed) ends() bool { return e.stmt != nil && (e.kind != 'P' || e.unnamed != 0) }

// pop takes the oldest entry away, and what the server ignores behind it.
func (x *Exchange) pop() {
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
func (x *Exchange) copyIn() {
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
		x.Unsynced = true
	}
}

// ends reports whether the end of a batch is unanswered.
func (x *Exchange) ends() bool {
	for i := x.head; i < len(x.q); i++ {
		switch x.q[i].kind {
		case 'S', 'Q', 'F':
			return true
		}
	}
	return false
}

// Executes reports whether an unanswered message may end a transaction.
func (x *Exchange) Executes() bool {
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
func (x *Exchange) pending(name string, s *statement) *owed {
	for i := x.head; i < len(x.q); i++ {
		if e := &x.q[i]; e.stmt == s && e.name == name && !e.ends() {
			return e
		}
	}
	return nil
}

// Idle reports whether the server has answered everything and waits for nothing.
func (x *Exchange) Idle() bool { return x.len() == 0 && !x.Unsynced }

// Rest ends a transaction: the exchange is idle. It gives memory back.
func (x *Exchange) Rest() {
	x.skipping, x.errored, x.copying, x.sets = false, false, false, false
	if x.len() == 0 && cap(x.q) > 64 {
		x.q = nil
	}
}
