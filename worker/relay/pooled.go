package relay

import (
	"bytes"
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Pooled is the conversation of a client that has a backend for one transaction at a
// time, and a part of the conversation of a kept session (keeping.go). rewrite.go explains the flow of bytes.
type Pooled struct {
	shared *Shared
	line   *line     // nil between transactions
	x      *exchange // of the current backend, nil for none
	id     uint64
	// names are the client's named statements. text is the size of all names and texts
	// together, in bytes.
	names   map[string]*statement
	text    int
	unnamed unnamed
	// tracked are the values of the tracked parameters that the client knows, initial
	// those after its login. initial is unset until the login is over.
	tracked, initial unique.Handle[settings]
	// untracked are the values of the other parameters that the client knows.
	untracked unique.Handle[string]
	// fail is what the next batch gets instead of running, nil for none.
	fail *failure
	// portal are the traits of the statement of the unnamed portal, portals those of all
	// named portals together.
	portal, portals traits
	// block is the client's transaction block while it has no backend. discarding: the
	// client was sent an error, and its messages are dropped up to its Sync.
	block      block
	discarding bool
}

// unnamed is a client's unnamed statement.
type unnamed struct {
	exists bool
	here   bool // exists is also true or false of the current backend
	kept   bool // tail is its Parse message after the name
	used   bool
	traits traits
	number uint64 // of the Parse that made it
	tail   []byte
}

// there are the statements on the current backend.
func (p *Pooled) there() *prepared { return &p.line.b.prepared }

// ready reports whether the login is over.
func (p *Pooled) ready() bool { return isSet(p.initial) }

// Enter ends the login of a client without a backend. params are those that the client is
// told. The client hears of what has changed since when it gets its first backend.
func (p *Pooled) Enter(params *Params) {
	p.tracked, p.untracked = params.settings(), params.untracked()
	p.initial = p.tracked
}

// Adapt implements Conversation.
func (p *Pooled) Adapt(b *Backend, follow *Params) string {
	switch {
	case !p.ready():
		return adapt(follow, &b.Base, &b.Params)
	case p.tracked == b.Params.settings():
		return ""
	}
	want := p.tracked.Value()
	return adapt(want.params(), &b.Base, &b.Params)
}

// Restore implements Conversation.
func (p *Pooled) Restore(b *Backend, _ *Params) string {
	return b.restore(func(i int) (string, bool) { return p.initial.Value().values[i], true })
}

// InFailedBlock implements Conversation.
func (p *Pooled) InFailedBlock() bool { return p.block == failedBlock }

// Start implements Conversation. The backend's tracked parameters are what the client
// knows already, because of Adapt. It is told of the others that differ.
func (p *Pooled) Start(b *Backend, status byte) (told []byte) {
	p.wake()
	p.line.start(&p.shared.Totals, b, pooledClient, pooledServer)
	b.Status, b.resets = status, false
	p.x = &b.exchange
	p.block = noBlock
	switch others := b.Params.untracked(); {
	case !p.ready():
		p.initial = b.Params.settings()
	case p.untracked != others:
		told = b.Params.appendUntracked(nil, p.untracked.Value())
	}
	return told
}

// wake gives the client a line if it has none.
func (p *Pooled) wake() {
	if p.line == nil {
		p.line = p.shared.take()
		p.line.up = pgwire.NewScanner(pooledClient)
	}
}

// doze gives the line back between transactions, because it is most of a client's
// memory. A client that is inside a message keeps it.
func (p *Pooled) doze() {
	if !p.line.up.AtBoundary() {
		p.line.trim()
		return
	}
	p.shared.give(p.line)
	p.line = nil
}

// FromClient implements Conversation.
func (p *Pooled) FromClient(chunk []byte) (Passed, error) {
	switch {
	case p.x == nil:
		return p.withoutBackend(chunk)
	case p.x.held != nil:
		p.x.held = append(p.x.held, chunk...) // the caller stops reading, but had read this already
		return Passed{Stand: Busy, Flooded: true}, nil
	}
	if p.line.keep != nil && p.line.b.Status == pgwire.TxIdle && p.x.idle() {
		p.tracked = p.line.b.Params.settings() // Restore may have set some
	}
	out, leaving, err := p.clientBytes(chunk, p.shared.scratch[:0])
	n := len(out)
	out = p.inventAnswers(out)
	p.shared.keep(out)
	if k := p.line.keep; k != nil {
		k.touched = k.touched || n > 0
	}
	return Passed{ToServer: out[:n], ToClient: out[n:], Stand: p.Stand(), Leaving: leaving, Flooded: p.flooded()}, err
}

// withoutBackend takes a chunk from a client that has no backend.
func (p *Pooled) withoutBackend(chunk []byte) (Passed, error) {
	p.wake()
	out := p.shared.scratch[:0]
	rest, leaving, err := p.awaken(chunk, &out)
	p.shared.keep(out)
	if len(rest) == 0 {
		p.doze()
	}
	return Passed{ToServer: rest, ToClient: out, Leaving: leaving}, err
}

// FromServer implements Conversation.
func (p *Pooled) FromServer(chunk []byte) (Passed, error) {
	out, err := p.serverBytes(chunk, p.shared.scratch[:0])
	n, leaving := len(out), false
	if p.x.held != nil && err == nil {
		out, leaving, err = p.resume(out)
	}
	p.shared.keep(out)
	stand := p.Stand()
	if stand == Resting {
		p.atRest()
	}
	return Passed{ToServer: out[n:], ToClient: out[:n], Stand: stand, Leaving: leaving, Flooded: p.flooded()}, err
}

// Stand implements Conversation.
func (p *Pooled) Stand() Stand {
	switch {
	case p.x == nil || p.x.need > 0 || !p.x.idle() || !p.line.idle():
		return Busy
	case p.line.b.Status != pgwire.TxIdle:
		return InBlock
	case p.line.keep != nil:
		return Resting
	}
	return Parting
}

// Load implements Conversation.
func (p *Pooled) Load() Load {
	switch {
	case p.x == nil:
		return Nothing
	case p.line.doubt || p.line.fatal:
		return Unclear
	case p.x.len() > 0:
		return Statement
	case p.Stand() == Resting:
		return Nothing
	}
	return Transaction
}

// Part implements Conversation.
func (p *Pooled) Part() []byte {
	b := p.line.b
	p.tracked, p.untracked = b.Params.settings(), b.Params.untracked()
	if p.x.dirty || p.x.sequences {
		b.Dirty, b.Sequences, b.DirtyBy = b.Dirty || p.x.dirty, true, p.id
	}
	if k := p.line.keep; k != nil && k.touched {
		b.Dirty, b.DirtyBy = true, p.id
	}
	b.exchange.rest()
	p.rest()
	p.doze()
	return nil
}

// rest forgets everything that belongs to the transaction that is over.
func (p *Pooled) rest() {
	u := &p.unnamed
	u.here = false
	u.exists = u.exists && u.kept && !(u.used && len(u.tail) > maxUnnamed)
	switch {
	case !u.exists && cap(u.tail) > 1024:
		u.tail = nil
	case cap(u.tail) > 2*len(u.tail)+1024:
		u.tail = bytes.Clone(u.tail)
	}
	p.x = nil
	p.portal, p.portals = 0, 0
}

// Lose implements Conversation.
func (p *Pooled) Lose() Loss {
	if !p.ready() || p.line.doubt {
		return Loss{Fate: Ends}
	}
	if why := p.stuck(); why != "" {
		return Loss{Fate: Ends, Why: why}
	}
	out, rest, ok := p.lose(p.shared.scratch[:0])
	p.shared.keep(out)
	if !ok {
		return Loss{Fate: Ends}
	}
	if k := p.line.keep; k != nil {
		k.lost()
	}
	p.rest()
	p.doze()
	if rest != nil {
		return Loss{Fate: Waits, ToClient: out, Rest: rest}
	}
	return Loss{Fate: Stays, ToClient: out}
}

// Refuse implements Conversation.
func (p *Pooled) Refuse(said, answer []byte) (passed Passed, stays bool, err error) {
	if !p.ready() {
		return Passed{}, false, nil
	}
	p.wake()
	out := p.shared.scratch[:0]
	for len(said) > 0 && err == nil && !passed.Leaving {
		p.line.up = pgwire.NewScanner(pooledClient)
		p.fail = &failure{answer}
		said, passed.Leaving, err = p.awaken(said, &out)
	}
	p.fail = nil
	p.shared.keep(out)
	p.doze()
	passed.ToClient = out
	return passed, true, err
}

// Cancel implements Conversation.
func (p *Pooled) Cancel(said []byte) (Passed, error) {
	p.wake()
	p.line.up = pgwire.NewScanner(pooledClient)
	p.fail = &failure{pgwire.RefusalCanceled.With().Append(nil)}
	return p.withoutBackend(said)
}

// Keeps implements Conversation.
func (p *Pooled) Keeps() bool { return false }

// Answers implements Conversation.
func (p *Pooled) Answers() bool { return true }

// Uncertain implements Conversation.
func (p *Pooled) Uncertain() bool {
	return p.x != nil && (p.x.executes() || p.line.uncertain())
}

// Finishes implements Conversation.
func (p *Pooled) Finishes() bool {
	return p.x != nil && !p.line.doubt && !p.x.unsynced && p.line.up.AtBoundary()
}

// MidMessage implements Conversation.
func (p *Pooled) MidMessage() bool { return p.x != nil && p.midMessage() }

// End implements Conversation.
func (p *Pooled) End() {
	p.forget()
	p.shared.give(p.line)
	p.line, p.x = nil, nil
}
