package relay

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// What happens to a client of the transaction pipeline that loses its backend, or gets
// none in time:
//
//  1. lose answers everything that was sent to the lost backend: one error for each
//     Sync, Query or FunctionCall, and a ReadyForQuery with the state that the client
//     must believe in. A lost transaction block becomes a failed block; otherwise its
//     second half would be committed without the first. A BEGIN that is lost opens no
//     block, as in PostgreSQL, because drivers send no ROLLBACK after it. But if the
//     client has sent more without waiting for the answer, a failed block is open.
//  2. What wasn't sent yet fails together with its batch (awaken), or waits for another
//     backend.
//  3. If the client is in a failed block, its next backend is brought into one first
//     (InFailedBlock). From there on PostgreSQL itself answers.
//
// Nothing is ever sent a second time.

// block is the transaction block of a client without a backend.
type block uint8

const (
	noBlock block = iota
	// lostBlock: the client believes that its block is open. Its next batch gets the
	// error.
	lostBlock
	// failedBlock: the client knows that its block has failed.
	failedBlock
)

// failure is an ErrorResponse.
type failure struct{ answer []byte }

// lose appends to out the answers that a lost backend owes. ok is false when no true
// answer is possible. rest is what the next backend has to be sent.
func (p *Pooled) lose(out []byte) (_, rest []byte, ok bool) {
	x, r := p.x, p.line
	if p.midMessage() {
		return out, nil, false // the rest of the message is unknown
	}
	if x.held != nil && x.held[0] == 'Q' {
		p.unwait()
	}
	out, rest, ok = p.loseBatches(out)
	if !ok {
		return out, nil, false
	}
	if x.held != nil {
		var leaving bool
		var err error
		if rest, leaving, err = p.awaken(x.held, &out); leaving || err != nil {
			return out, nil, false
		}
		rest = bytes.Clone(rest)
		x.held, x.waits = nil, false
	}
	for i := len(x.q) - 1; i >= x.head; i-- {
		p.undo(&x.q[i])
	}
	x.q, x.head = nil, 0
	p.untracked = r.b.Params.untracked()
	if r.b.Status == pgwire.TxIdle {
		p.tracked = r.b.Params.settings()
	} else if now := r.b.Params.settings(); now != p.tracked {
		out = appendChanges(out, now.Value(), p.tracked.Value()) // the server has rolled them back
	}
	return out, rest, true
}

// midMessage reports whether the client was sent only a part of a message.
func (p *Pooled) midMessage() bool {
	typ, n := p.line.down.Open()
	switch {
	case n == 0 || p.x.sinks:
		return false
	case typ == 'E':
		return p.x.errorPassing
	case p.line.down.SplitHeader() > 0:
		return pooledServer[typ]&(pgwire.AtHeader|pgwire.Refuse) == 0
	}
	return true
}

// loseBatches ends each batch that the backend was sent, and then the part of the next
// batch that it was sent.
func (p *Pooled) loseBatches(out []byte) (_, rest []byte, ok bool) {
	x := p.x
	in, known := p.line.b.Status != pgwire.TxIdle, true
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
				return out, nil, false
			}
			implicit = implicit || !was && !in
		}
		sent = true
		if e.kind == 'S' || e.kind == 'Q' || e.kind == 'F' {
			if !told {
				out = append(out, p.loss(implicit || commits).answer...)
			}
			in = in && !onlyBegin
			out = pgwire.AppendReadyForQuery(out, statusOf(in))
			told, implicit, commits = false, false, false
		}
	}
	begun := x.unsynced || x.skipping
	if !sent && !begun && p.line.b.Status == pgwire.TxOpen {
		p.block, p.fail = lostBlock, p.loss(false)
	} else {
		p.block = blockOf(in)
	}
	if begun {
		if !told {
			out = append(out, p.loss(commits).answer...) // the server commits no implicit transaction before its Sync
		}
		p.discarding = true
	}
	out, rest = p.losePartial(out, sent || p.block != noBlock)
	return out, rest, true
}

// onlyBegin reports whether the client waits for nothing but the answer to a BEGIN
// outside of a transaction block, and has sent nothing after it.
func (p *Pooled) onlyBegin() bool {
	x := p.x
	if p.line.b.Status != pgwire.TxIdle || x.unsynced || x.skipping || x.need > 0 {
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

// losePartial handles a message that was being collected: it waits for the next
// backend, or fails with the messages before it.
func (p *Pooled) losePartial(out []byte, failed bool) (_, rest []byte) {
	if p.x.need == 0 {
		return out, nil
	}
	typ := p.x.partial[0]
	if !failed && !p.discarding {
		rest = bytes.Clone(p.x.partial)
	}
	p.collected()
	switch {
	case p.discarding, !failed:
	default:
		p.fail = p.loss(false)
		out = p.failMessage(out, typ, 0, false)
	}
	return out, rest
}

// loss is the error of a lost backend.
func (p *Pooled) loss(unknown bool) *failure {
	r := pgwire.RefusalTransactionLost
	if unknown {
		r = pgwire.RefusalOutcomeUnknown
	}
	return &failure{r.With().Detail(p.x.farewell).AppendError(nil)}
}

func statusOf(inBlock bool) byte {
	if inBlock {
		return pgwire.TxFailed
	}
	return pgwire.TxIdle
}

func blockOf(inBlock bool) block {
	if inBlock {
		return failedBlock
	}
	return noBlock
}

// failMessage answers the first message of a batch that fails with p.fail. t are the
// traits of its text, if it has one. last means that the client has sent nothing after
// it.
func (p *Pooled) failMessage(out []byte, typ byte, t traits, last bool) []byte {
	out = append(out, p.fail.answer...)
	p.fail = nil
	in := p.block != noBlock
	switch typ {
	case 'Q', 'F', 'S':
		if after, known := t.after(in); known && !(last && !in && t.begins()) {
			in = after
		}
		p.block = blockOf(in)
		return pgwire.AppendReadyForQuery(out, statusOf(in))
	}
	p.block = blockOf(in)
	p.discarding = true
	return out
}

// awaken reads what a client without a backend says. It returns the part of data that
// needs a backend; copy data of a COPY that has failed, and a Flush, need none. Answers
// to messages that fail without a backend are appended to out.
func (p *Pooled) awaken(data []byte, out *[]byte) (rest []byte, leaving bool, err error) {
	var ev pgwire.Event
	for pos := 0; ; {
		if pos, err = p.line.up.Next(data, pos, &ev); err != nil {
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
				*out = pgwire.AppendReadyForQuery(*out, statusOf(p.block != noBlock))
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

// fails answers a message if p.fail says that it must fail, and reports whether it
// did.
func (p *Pooled) fails(data []byte, ev *pgwire.Event, out *[]byte) bool {
	if p.fail == nil {
		return false
	}
	var t traits
	end := ev.Pos + ev.Length
	if ev.Type == 'Q' && end <= len(data) {
		t = traitsOf(queryText(data[ev.Pos:end]))
	}
	if p.block == lostBlock {
		p.block = failedBlock
		if t&traitControl == traitCloses {
			p.fail = nil
			return false // a ROLLBACK: the client wants the block to end anyway
		}
	}
	*out = p.failMessage(*out, ev.Type, t, end == len(data))
	return true
}
