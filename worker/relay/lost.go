package relay

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// What becomes of a client of the transaction pipeline whose backend is lost, or
// that gets none in time:
//
//  1. lose answers everything that was sent to the backend: one error for each
//     Sync, Query or FunctionCall, with the state that leaves the client where it
//     thinks it is. A transaction block that is lost becomes a failed one, or the
//     rest of it would be committed without its first half. A BEGIN that fails has
//     opened none, as in PostgreSQL: drivers don't ROLLBACK after it. But if more
//     was said without waiting for its answer, that is taken for a block.
//  2. What hadn't been sent yet fails with the batch that it belongs to (awaken),
//     or waits for another backend.
//  3. The next backend of a client whose block is lost has a block opened and
//     failed on it first (failBlock), so all that follows is PostgreSQL's own.
//
// Nothing is ever sent a second time.

// block says what a client without a backend has of a transaction block.
type block uint8

const (
	NoBlock block = iota
	// lostBlock is open as far as the client knows: its next batch gets the error.
	lostBlock
	// FailedBlock is one that the client knows to have failed.
	FailedBlock
)

// Failure is what the next batch of a client is told; no code means none.
type Failure struct{ Code, Message, Detail string }

const (
	msgLost    = "the connection to the server was lost, and the transaction with it"
	msgUnknown = "the connection to the server was lost; whether the last statement took effect is unknown"
)

func (f *Failure) append(dst []byte) []byte {
	return pgwire.AppendError(dst, pgwire.SeverityError, f.Code, f.Message, pgwire.Detail(f.Detail))
}

// Lose appends the answers that a lost backend owes; false when there are none
// that would be true.
func (p *Pooled) Lose(out []byte) ([]byte, bool) {
	x, r := p.X, p.Relay
	if p.midMessage() {
		return out, false // nothing can be said there
	}
	out, ok := p.loseBatches(out)
	if !ok {
		return out, false
	}
	for i := len(x.q) - 1; i >= x.head; i-- {
		p.undo(&x.q[i])
	}
	x.q, x.head = nil, 0
	if r.Status == pgwire.TxIdle {
		p.Tracked = r.Params.Settings()
	} else if now := r.Params.Settings(); now != p.Tracked {
		out = AppendChanges(out, now.Value(), p.Tracked.Value()) // the server has taken them back
	}
	return out, true
}

// midMessage reports whether the client has got a part of a message.
func (p *Pooled) midMessage() bool {
	typ, n := p.Relay.Down.Open()
	switch {
	case n == 0:
		return false
	case typ == 'E':
		return p.X.errorPassing
	case p.Relay.Down.SplitHeader() > 0:
		return PooledServer[typ]&(pgwire.AtHeader|pgwire.Refuse) == 0
	}
	return true
}

// loseBatches ends each batch that the backend was sent, then what was begun of
// the next one.
func (p *Pooled) loseBatches(out []byte) ([]byte, bool) {
	x := p.X
	in, known := p.Relay.Status != pgwire.TxIdle, true
	onlyBegin := p.onlyBegin()
	told, sent, implicit, commits := x.errored, false, false, false
	for i := x.head; i < len(x.q); i++ {
		e := &x.q[i]
		switch e.kind {
		case 'Q', 'E', 'F':
			was := in
			if e.kind != 'F' {
				commits = commits || e.traits&traitCommits != 0
				in, known = e.traits.after(in)
			}
			if !known {
				return out, false
			}
			implicit = implicit || !was && !in
		}
		sent = true
		if e.kind == 'S' || e.kind == 'Q' || e.kind == 'F' {
			if !told {
				out = p.loss(implicit || commits).append(out)
			}
			in = in && !onlyBegin
			out = pgwire.AppendReadyForQuery(out, statusOf(in))
			told, implicit, commits = false, false, false
		}
	}
	begun := x.Unsynced || x.skipping
	if !sent && !begun && p.Relay.Status == pgwire.TxOpen {
		p.Block, p.Fail = lostBlock, p.loss(false)
	} else {
		p.Block = blockOf(in)
	}
	if begun {
		if !told {
			out = p.loss(commits).append(out) // without its Sync an implicit transaction isn't committed
		}
		p.discarding = true
	}
	return p.losePartial(out, sent || p.Block != NoBlock), true
}

// onlyBegin reports whether all that the client waits for, and all that it has
// said, is the answer to a BEGIN outside of a transaction block.
func (p *Pooled) onlyBegin() bool {
	x := p.X
	if p.Relay.Status != pgwire.TxIdle || x.Unsynced || x.skipping || x.Need > 0 {
		return false
	}
	begins := 0
	for i := x.head; i < len(x.q); i++ {
		switch e := &x.q[i]; e.kind {
		case 'Q', 'E':
			if !e.traits.begins() {
				return false
			}
			begins++
		case 'F':
			return false
		}
	}
	return begins == 1
}

// losePartial deals with a message that was being collected: it waits for the
// next backend, or fails with what came before it.
func (p *Pooled) losePartial(out []byte, failed bool) []byte {
	if p.X.Need == 0 {
		return out
	}
	typ := p.X.partial[0]
	if !failed && !p.discarding {
		p.Stash = bytes.Clone(p.X.partial)
	}
	p.collected()
	switch {
	case p.discarding, !failed:
	default:
		p.Fail = p.loss(false)
		out = p.failMessage(out, typ, 0, false)
	}
	return out
}

// loss is the error of a lost backend.
func (p *Pooled) loss(unknown bool) *Failure {
	if unknown {
		return &Failure{pgwire.CodeOutcomeUnknown, msgUnknown, p.X.farewell}
	}
	return &Failure{pgwire.CodeConnectionFailure, msgLost, p.X.farewell}
}

func statusOf(inBlock bool) byte {
	if inBlock {
		return pgwire.TxFailed
	}
	return pgwire.TxIdle
}

func blockOf(inBlock bool) block {
	if inBlock {
		return FailedBlock
	}
	return NoBlock
}

// failMessage answers the first message of a batch that fails with p.fail. t are
// the traits of its text, if it has one; last says that the client has said nothing
// after it.
func (p *Pooled) failMessage(out []byte, typ byte, t traits, last bool) []byte {
	out = p.Fail.append(out)
	p.Fail = nil
	in := p.Block != NoBlock
	switch typ {
	case 'Q', 'F', 'S':
		if after, known := t.after(in); known && !(last && !in && t.begins()) {
			in = after
		}
		p.Block = blockOf(in)
		return pgwire.AppendReadyForQuery(out, statusOf(in))
	}
	p.Block = blockOf(in)
	p.discarding = true
	return out
}

// Awaken returns what of data a backend is needed for, for a client without one;
// nothing if all of it is late: a COPY has failed before, or there is nothing to
// flush. What it returns may be a part of data. Answers to what fails without a
// backend are appended to out.
func (p *Pooled) Awaken(data []byte, out *[]byte) (rest []byte, leaving bool, err error) {
	var ev pgwire.Event
	for pos := 0; ; {
		if pos, err = p.Relay.Up.Next(data, pos, &ev); err != nil {
			return nil, false, err
		}
		switch {
		case ev.Phase == pgwire.Exhausted:
			return nil, false, nil
		case ev.Type == 'X':
			return nil, true, nil
		case p.discarding:
			if ev.Type == 'S' {
				p.discarding = false
				*out = pgwire.AppendReadyForQuery(*out, statusOf(p.Block != NoBlock))
			}
		case ev.Type == 'c' || ev.Type == 'f' || ev.Type == 'H':
		case p.fails(data, &ev, out):
		case ev.Start < 0:
			return append(header(nil, &ev), data[ev.Pos:]...), false, nil
		default:
			return data[ev.Start:], false, nil
		}
	}
}

// fails answers a message that there is no backend for any more, and reports
// whether it did.
func (p *Pooled) fails(data []byte, ev *pgwire.Event, out *[]byte) bool {
	if p.Fail == nil {
		return false
	}
	var t traits
	end := ev.Pos + ev.Length
	if ev.Type == 'Q' && end <= len(data) {
		t = traitsOf(queryText(data[ev.Pos:end]))
	}
	if p.Block == lostBlock {
		p.Block = FailedBlock
		if t&traitControl == traitCloses {
			p.Fail = nil
			return false // a ROLLBACK, which is all that was left to do
		}
	}
	*out = p.failMessage(*out, ev.Type, t, end == len(data))
	return true
}
