package relay

import "unique"

// Conversation is the exchange of bytes between one client and its backends, from the
// client's login to its end. There are two kinds: in a Direct conversation the client
// keeps its backend; in a Pooled conversation it has one for each transaction, or, in a kept
// session, keeps it as long as there is no reason to take it away.
//
// A conversation belongs to one goroutine. Memory that it returns is valid until the
// next call of any conversation of the same Shared; a part of the caller's chunk is
// valid as long as the chunk.
type Conversation interface {
	// Adapt returns the SQL that gives a backend the parameters that the client
	// expects, empty when the backend has them. follow are the parameters that the
	// client asked for at its login.
	Adapt(b *Backend, follow *Params) string
	// Restore returns the SQL that gives a backend the parameters again that the client
	// began with, where the client has reset them; empty when it has reset none. follow
	// are the parameters that the client asked for at its login.
	Restore(b *Backend, follow *Params) string
	// InFailedBlock reports whether the client believes that it is in a failed
	// transaction block. Then its next backend must be brought into one before Start.
	InFailedBlock() bool
	// Start connects the client with a backend, whose transaction status is status. It
	// returns messages that the client must get first.
	Start(b *Backend, status byte) []byte
	// FromClient takes a chunk from the client. If the client has no backend, ToServer
	// is the part of the chunk that needs one: give it to FromClient again after Start.
	FromClient(chunk []byte) (Passed, error)
	// FromServer takes a chunk from the backend.
	FromServer(chunk []byte) (Passed, error)
	// Stand tells where the conversation stands.
	Stand() Stand
	// Load tells what the client keeps its backend for.
	Load() Load
	// Part disconnects the client from a backend that isn't Busy, and marks the backend
	// if the client may have left something there. It returns messages for the client.
	Part() []byte
	// Lose disconnects the client from a backend that is lost.
	Lose() Loss
	// Refuse answers what a client has said that waited for a backend and gets none. answer
	// is an ErrorResponse of severity ERROR. stays reports whether the client may stay.
	Refuse(said, answer []byte) (p Passed, stays bool, err error)
	// Cancel answers the first batch that the client has said while it waits for a
	// backend as the server answers a batch that is cancelled. ToServer is what comes
	// after that batch, and still needs a backend.
	Cancel(said []byte) (Passed, error)
	// Keeps reports whether the client keeps its backend between transactions.
	Keeps() bool
	// Answers reports whether the client may get answers that don't come from a server.
	Answers() bool
	// Uncertain reports whether an unanswered message may have ended a transaction;
	// then the client can't know whether its work was committed.
	Uncertain() bool
	// Finishes reports whether the server will answer everything without another
	// message from the client.
	Finishes() bool
	// MidMessage reports whether the client was sent only a part of a message.
	MidMessage() bool
	// Movable reports whether nothing is under way, so that another worker can continue.
	Movable() bool
	// Carry returns what another worker needs to continue a Movable conversation (carried.go).
	Carry() Carried
	// End releases everything, when the client has left or was carried to another worker.
	End()
}

// Passed is the result of a chunk: what to send, and where the conversation stands.
type Passed struct {
	ToServer, ToClient []byte
	Stand              Stand
	// Leaving: the client has sent a Terminate, which isn't passed on.
	Leaving bool
	// Flooded: the server owes the client so many answers that the caller must stop
	// reading from the client.
	Flooded bool
}

// Stand is where a conversation stands.
type Stand uint8

const (
	// Busy: the server owes answers, or one side is inside a message.
	Busy Stand = iota
	// InBlock: the server waits for the next statement of a transaction block.
	InBlock
	// Resting: between two transactions. The client keeps its backend.
	Resting
	// Parting: between two transactions. The client needs no backend.
	Parting
)

// Load is what a client keeps a backend for.
type Load uint8

const (
	// Unclear: what the server does can't be told.
	Unclear Load = iota
	// Nothing: no statement runs, and there is no transaction.
	Nothing
	// Transaction: no statement runs, but the server waits for the rest of a transaction, or of a
	// message.
	Transaction
	// Statement: a statement runs.
	Statement
)

// Loss is the result of losing a backend.
type Loss struct {
	Fate     Fate
	ToClient []byte
	// Rest is what the client has said that its next backend must be sent.
	Rest []byte
	// Why is what a kept session that Ends would lose, empty for any other.
	Why string
}

// Fate is what happens to a client whose backend is lost.
type Fate uint8

const (
	// Ends: the client must be told that its session is over.
	Ends Fate = iota
	// Told: the session is over, and the server has told the client.
	Told
	// Waits: the client stays and needs another backend now.
	Waits
	// Stays: the client stays and needs no backend for now.
	Stays
)

// Backend is what conversations know about a backend. It lasts as long as the backend.
type Backend struct {
	// Base are the parameters after its login, Params the current ones.
	Base, Params Params
	// Status is the transaction status of its last ReadyForQuery.
	Status byte
	// Steps counts what shows that one statement has ended or the next has begun. It overflows.
	Steps uint32
	// Code is the SQLSTATE of its last error that says something about the server
	// itself. The reader resets it.
	Code string
	// Died: with Code the server has said that its postmaster is gone.
	Died bool
	// Indelible: its client has left something that no reset query removes.
	Indelible bool
	// Dirty: the client DirtyBy may have left something that only the reset query removes.
	// Sequences: it may have left what currval and lastval remember.
	Dirty, Sequences bool
	DirtyBy          uint64

	// resets: the client may have reset a tracked parameter to its value in Base.
	resets   bool
	exchange exchange
	prepared prepared
}

// Clean records that the reset query has run: nothing of any client is left.
func (b *Backend) Clean() {
	b.CleanSequences()
	b.Dirty = false
}

// CleanSequences records that nothing is left of values of sequences.
func (b *Backend) CleanSequences() { b.Sequences, b.DirtyBy = false, 0 }

// Holding returns the statements that the backend holds. No Parse is under way.
func (b *Backend) Holding() Holding { return b.prepared.holding() }

// Restore is the reverse of Holding.
func (b *Backend) Restore(h Holding) { b.prepared.restore(h) }

// Unasked takes a chunk that the server sends while nobody uses the backend. It
// reports whether the backend can still be used: only parameters and notices may come.
func (b *Backend) Unasked(chunk []byte) bool {
	var l line
	l.start(&Totals{}, b, clientInterests, serverInterests)
	err := l.serverBytes(chunk)
	return err == nil && b.Code == "" && !l.fatal && !l.doubt && l.down.AtBoundary()
}

// Totals are counters over all conversations of a Shared.
type Totals struct {
	// Queries counts Query and Execute messages, as pgagroal_query_count does.
	Queries uint64
	// Transactions counts transitions into a transaction block.
	Transactions uint64
	// Sent are bytes from clients to servers, Received those from servers.
	Sent, Received uint64
}

const (
	// maxLines is how many unused lines are kept.
	maxLines = 64
	// maxScratch is the most scratch memory that is kept, in bytes.
	maxScratch = 1 << 20
)

// Shared is what all conversations of a worker share.
type Shared struct {
	Totals
	statements *statements
	lines      []*line // unused
	scratch    []byte
}

// NewShared returns a Shared for a worker.
func NewShared() *Shared { return &Shared{statements: newStatements()} }

// take returns an unused line.
func (s *Shared) take() *line {
	n := len(s.lines)
	if n == 0 {
		return &line{}
	}
	l := s.lines[n-1]
	s.lines = s.lines[:n-1]
	return l
}

// give takes a line back. It may be nil.
func (s *Shared) give(l *line) {
	if l != nil && len(s.lines) < maxLines {
		*l = line{}
		s.lines = append(s.lines, l)
	}
}

// keep keeps scratch memory for the next chunk.
func (s *Shared) keep(b []byte) {
	if cap(b) <= maxScratch {
		s.scratch = b[:0]
	} else {
		s.scratch = nil
	}
}

// Direct returns a conversation for a client that keeps its backend. id is the
// client's. moves means that the client gets another backend if its backend is lost
// before the client has used it.
func (s *Shared) Direct(id uint64, moves bool) *Direct {
	return &Direct{shared: s, id: id, moves: moves}
}

// Pooled returns a conversation for a client that has a backend for one transaction at
// a time. id is the client's.
func (s *Shared) Pooled(id uint64) *Pooled { return &Pooled{shared: s, id: id} }

// Kept returns a conversation for a client that keeps its backend, and gets another one if that is
// lost, as long as reader understands what the client leaves in its session. id is the client's.
func (s *Shared) Kept(id uint64, reader Reader) *Kept {
	return &Kept{Pooled: Pooled{shared: s, id: id}, keep: keeping{reader: reader}}
}

var _, _, _ Conversation = (*Direct)(nil), (*Pooled)(nil), (*Kept)(nil)

// isSet reports whether a handle has a value.
func isSet(h unique.Handle[settings]) bool { return h != unique.Handle[settings]{} }
