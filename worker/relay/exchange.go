package relay

// exchange is the queue of answers that a server owes in the transaction pipeline,
// with one entry for each message that the server answers. A server answers in order;
// after an error it skips everything up to the next Sync.
type exchange struct {
	q    []owed
	head int
	// batch is the number of the current batch. Sync, Query and FunctionCall end one.
	batch uint64
	// unsynced: messages of the extended protocol were sent without a Sync.
	unsynced bool
	// skipping: an error came before the client has sent the Sync of its batch. Until
	// that Sync the server ignores everything.
	skipping bool
	// errored: the client was sent an error, and not yet the ReadyForQuery after it.
	errored bool
	// copying: the server reads copy data and ignores every Sync.
	copying bool
	// partial is the part so far of a message that is being collected, need the length
	// of the whole message.
	partial []byte
	need    int
	// skip is how many bytes are still to come of a message that is thrown away.
	skip int
	// heldError is the first part of an error that doesn't end in its chunk.
	// errorPassing: the error is too long to be held back and is passed on.
	heldError    []byte
	errorPassing bool
	// farewell is the server's own reason for closing the connection.
	farewell string
	// sets: a statement of this batch may change settings that a Parse depends on. The
	// server doesn't report them before ReadyForQuery.
	sets bool
	// described: the current Query has been answered with a RowDescription.
	described bool
	// dirty: the client has left something that another client must not find.
	// sequences: it has left values of sequences, for currval and lastval.
	dirty, sequences bool
	// waits: the client's bytes must wait for a description. held are these bytes.
	waits bool
	held  []byte
	// checked are the statements that their first message has waited for.
	checked []checked
	// said is the description so far; its first params bytes are the ParameterDescription.
	// sinks: the server is inside a message of the description. tooLong: a part of the
	// description was dropped.
	said           []byte
	params         int
	sinks, tooLong bool
}

// checked is a statement that the server has described again, and the same on the backend,
// nil if it is outdated.
type checked struct {
	stmt *statement
	on   *onBackend
}

// fate is what happens to an answer.
type fate uint8

const (
	pass     fate = iota // it goes to the client
	swallow              // it answers a message that the relay added, so it goes nowhere
	invent               // the message wasn't sent, so the relay answers it in its turn
	tooMany              // the server's error is replaced: a limit is exceeded
	outdated             // the server's error is replaced: a statement's result has changed
	unheard              // the server's error is replaced: nothing would come after a LISTEN
)

// copyEnd is the kind of an entry that the server doesn't answer: a CopyDone or
// CopyFail that the client has sent before the server asked for data. It is never the
// first entry.
const copyEnd byte = 'c'

// owed is an answer that the server owes. kind is the type of the message that it
// answers.
type owed struct {
	kind   byte
	fate   fate
	traits traits // of what a Query or Execute runs
	// unnamed is the number of the unnamed statement that a Parse makes.
	unnamed uint64
	// on is the statement on the backend that a Parse makes, a Close ends, or a Bind, a
	// Describe or an EXECUTE in a Query uses.
	on *onBackend
	// name is the client's name of stmt: the name that a Parse gives it, or the name
	// that it had until a Close, or until the Bind of a DEALLOCATE.
	name string
	stmt *statement
	// endings are the DEALLOCATEs of a Query, nil for none.
	endings *endings
	// asks is the statement for which the relay has added a Describe.
	asks *statement
	// effect is what a Query, Execute or FunctionCall leaves in a kept session.
	effect *Effect
	// several: a Query of a kept session that begins or ends transactions has several statements, or an
	// Execute may be of one of several portals.
	several bool
}

func (x *exchange) push(e owed) {
	x.copying = false // any message but copy data makes the COPY fail
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

// ends reports whether the client's statement goes away when this is answered.
func (e *owed) ends() bool { return e.stmt != nil && e.kind != 'P' }

// pop removes the oldest entry, and the entries after it that the server ignores.
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

// copyIn handles the server's request for copy data. The server ignores the Syncs
// that were sent before the end of the data; libpq sends one together with the
// Execute. Any other message before the end makes the COPY fail.
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

// pending returns the entry of the unanswered Parse that gives a statement a name,
// nil for none.
func (x *exchange) pending(name string, s *statement) *owed {
	for i := x.head; i < len(x.q); i++ {
		if e := &x.q[i]; e.stmt == s && e.name == name && !e.ends() {
			return e
		}
	}
	return nil
}

// idle reports whether the server has answered everything and waits for no Sync.
func (x *exchange) idle() bool { return x.len() == 0 && !x.unsynced }

// rest ends a transaction, when the exchange is idle. It frees memory.
func (x *exchange) rest() {
	x.skipping, x.errored, x.copying, x.sets = false, false, false, false
	x.described, x.dirty, x.sequences = false, false, false
	x.checked = nil
	if x.len() == 0 && cap(x.q) > 64 {
		x.q = nil
	}
}
