package relay

import (
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Conversation is what one client says to its servers and hears from them, from
// its login to its end. There are two kinds: Direct, in which the client keeps
// its backend, and Pooled, in which it has one from the first message of a
// transaction to the last.
//
// It belongs to one goroutine. Memory that it returns is good until the next call
// of any conversation of the same Shared, or as long as the chunk that was given.
type Conversation interface {
	// Adapt returns the SQL that gives a backend the parameters that the client
	// expects, empty when it has them. follow are those that it asked for at login.
	Adapt(b *Backend, follow *Params) string
	// InFailedBlock reports whether the next backend must be brought into a failed
	// transaction block first, since the client believes that it is in one.
	InFailedBlock() bool
	// Start lets the client talk to a backend, whose transaction status is status. It
	// returns what the client has to be told first.
	Start(b *Backend, status byte) []byte
	// FromClient takes a chunk from the client. Without a backend ToServer is what
	// one is needed for; it has to be said again once there is one.
	FromClient(chunk []byte) (Passed, error)
	// FromServer takes a chunk from the backend.
	FromServer(chunk []byte) (Passed, error)
	// Stand tells where the conversation stands.
	Stand() Stand
	// Part ends a conversation with a backend that rests, and notes what the client
	// has left there. It returns what the client has to be told.
	Part() []byte
	// Lose ends a conversation with a backend that is lost.
	Lose() Loss
	// Refuse fails what the client has said while it waited for a backend that it
	// doesn't get. It reports whether the client may stay.
	Refuse(said []byte, f *Failure) (p Passed, stays bool, err error)
	// Keeps reports whether the client keeps a backend for as long as it can.
	Keeps() bool
	// Uncertain reports whether something that wasn't answered may have ended a
	// transaction: the client can't know whether its work was committed.
	Uncertain() bool
	// Finishes reports whether the server will come to rest without another word.
	Finishes() bool
	// MidMessage reports whether the client has been sent a part of a message.
	MidMessage() bool
	// End gives everything back, when the client has left.
	End()
}

// Passed says what becomes of a chunk.
type Passed struct {
	ToServer, ToClient []byte
	Stand              Stand
	// Leaving: the client has said goodbye, which isn't passed on.
	Leaving bool
	// Flooded: the client is owed so much that it must not be listened to.
	Flooded bool
}

// Stand says where a conversation stands.
type Stand uint8

const (
	// Busy: the server owes answers, or somebody is in the middle of a message.
	Busy Stand = iota
	// InBlock: the server waits for the next statement of a transaction.
	InBlock
	// Resting: between two transactions, and the client keeps its backend.
	Resting
	// Parting: between two transactions, and the client needs no backend.
	Parting
)

// Loss is what becomes of a client whose backend is lost.
type Loss struct {
	Fate     Fate
	ToClient []byte
	// Rest is what the client has said for its next backend.
	Rest []byte
}

// Fate says whether a client survives the loss of its backend.
type Fate uint8

const (
	// Ends: the client must be told that its session is over.
	Ends Fate = iota
	// Told: its session is over, and the server has told it so.
	Told
	// Waits: it stays, and needs another backend now.
	Waits
	// Stays: it stays, and needs no backend for now.
	Stays
)

// Backend is what conversations know of a backend, from its login to its end.
type Backend struct {
	// Base are the parameters after its login, Params those of now.
	Base, Params Params
	// Status is the transaction status of its last ReadyForQuery.
	Status byte
	// Code is the SQLSTATE of its last error that says something about the server
	// itself. Who reads it empties it.
	Code string
	// Died: with Code the server has said that its postmaster is gone.
	Died bool
	// Dirty: the client DirtyBy has left something behind that others must not find.
	Dirty   bool
	DirtyBy uint64

	exchange exchange
	prepared prepared
}

// Clean notes that the reset query has run: nothing of anybody's is left.
func (b *Backend) Clean() {
	b.Dirty, b.DirtyBy = false, 0
	b.prepared.clear()
}

// Holding returns the statements that the backend holds. No Parse is under way.
func (b *Backend) Holding() Holding { return b.prepared.holding() }

// Restore is the reverse of Holding.
func (b *Backend) Restore(h Holding) { b.prepared.restore(h) }

// Unasked takes what a server says while nobody uses the backend. It reports
// whether the backend is still good: only parameters and notices may come.
func (b *Backend) Unasked(chunk []byte) bool {
	var l line
	l.start(&Totals{}, b, clientInterests, serverInterests)
	err := l.serverBytes(chunk)
	return err == nil && b.Code == "" && !l.fatal && !l.doubt && l.down.AtBoundary()
}

// ScriptScanner returns a scanner for what a server answers to queries of our own.
// It stops at ReadyForQuery, ErrorResponse, ParameterStatus and the beginning of a
// COPY.
func ScriptScanner() pgwire.Scanner { return pgwire.NewScanner(serverInterests) }

// Totals count what all conversations of a Shared have seen.
type Totals struct {
	// Queries counts Query and Execute messages, as pgagroal_query_count does.
	Queries uint64
	// Transactions counts transitions into a transaction block.
	Transactions uint64
	// Sent are bytes from clients to servers, Received those from servers.
	Sent, Received uint64
}

const (
	// maxLines is how many lines are kept for the next to use.
	maxLines = 64
	// maxScratch is how large the scratch memory may stay, in bytes.
	maxScratch = 1 << 20
)

// Shared is what all conversations of a worker have together.
type Shared struct {
	Totals
	statements *statements
	lines      []*line // that nobody uses
	scratch    []byte
}

// NewShared returns a Shared for a worker.
func NewShared() *Shared { return &Shared{statements: newStatements()} }

// take returns a line.
func (s *Shared) take() *line {
	n := len(s.lines)
	if n == 0 {
		return &line{}
	}
	l := s.lines[n-1]
	s.lines = s.lines[:n-1]
	return l
}

// give takes back a line, nil for none.
func (s *Shared) give(l *line) {
	if l != nil && len(s.lines) < maxLines {
		*l = line{}
		s.lines = append(s.lines, l)
	}
}

// keep keeps memory for the next chunk.
func (s *Shared) keep(b []byte) {
	if cap(b) <= maxScratch {
		s.scratch = b[:0]
	} else {
		s.scratch = nil
	}
}

// Direct returns the conversation of a client that keeps its backend. id is the
// client's; moves says that a client that has left nothing on a lost backend may
// get another one.
func (s *Shared) Direct(id uint64, moves bool) *Direct {
	return &Direct{shared: s, id: id, moves: moves}
}

// Pooled returns the conversation of a client that has a backend for one
// transaction at a time. id is the client's.
func (s *Shared) Pooled(id uint64) *Pooled { return &Pooled{shared: s, id: id} }

var _, _ Conversation = (*Direct)(nil), (*Pooled)(nil)

// isSet reports whether a handle has a value.
func isSet(h unique.Handle[settings]) bool { return h != unique.Handle[settings]{} }
