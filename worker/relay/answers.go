package relay

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// ServerBytes appends to out what the client is to get of data.
func (p *Pooled) ServerBytes(data, out []byte) ([]byte, error) {
	r := p.Relay
	var ev pgwire.Event
	from := 0
	for pos := 0; ; {
		var err error
		if pos, err = r.Down.Next(data, pos, &ev); err != nil {
			r.Doubt = true
			return out, err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		if ev.Phase == pgwire.Header && ev.Start < 0 {
			out = header(out, &ev) // it was held back
			from = ev.Pos
		}
		out, from = p.answer(data, out, from, &ev)
	}
	end := len(data) - holdBack(&r.Down, PooledServer, data)
	if typ, n := r.Down.Open(); typ == 'E' && !p.X.errorPassing {
		out = p.holdError(out, data, from, n)
		from = end
	}
	if from < end {
		out = append(out, data[from:end]...)
	}
	r.Received += uint64(len(data))
	return out, nil
}

// answer handles one message of the server; bytes of data before from are in out.
func (p *Pooled) answer(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	r := p.Relay
	switch ev.Type {
	case '1':
		return p.parsedOrClosed('P', data, out, from, ev)
	case '3':
		return p.parsedOrClosed('C', data, out, from, ev)
	case '2':
		return p.completes('B', data, out, from, ev)
	case 'T':
		p.described = true
		return p.completes('D', data, out, from, ev)
	case 'n':
		return p.completes('D', data, out, from, ev)
	case 's', 'I':
		return p.completes('E', data, out, from, ev)
	case 'C':
		p.tag(ev.Body)
		return p.completes('E', data, out, from, ev)
	case 'E':
		return p.serverError(data, out, from, ev)
	case 'S':
		r.Params.Status(ev.Body)
	case 'G':
		if e := p.X.First(); e != nil && (e.kind == 'E' || e.kind == 'Q') {
			p.X.copyIn()
		}
	case 'W':
		r.Doubt = true
	case 'Z':
		if p.readyForQuery(ev.Status()) {
			return p.invented(data, out, from, ev)
		}
	}
	return out, from
}

// serverError takes note of an error. One with which the server says goodbye
// isn't passed on: the client stays, and is told of it in the words of lose.
func (p *Pooled) serverError(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	p.Relay.serverError(ev.Body)
	f := pgwire.ParseError(ev.Body)
	held := p.X.heldError
	p.X.heldError = nil
	switch {
	case p.X.errorPassing:
		p.X.errorPassing = false
	case f.Fatal():
		p.X.farewell = f.Code + ": " + f.Message
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		return out, ev.Pos
	case p.isOverLimit():
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		out, from = appendOverLimit(out), ev.Pos
	default:
		out = append(out, held...)
	}
	p.failed(f.Code)
	return out, from
}

// maxHeldError is how long the part of an error may be that is held back, in
// bytes.
const maxHeldError = 64 << 10

// holdError keeps the beginning of an error, n bytes so far, that a chunk has
// ended in.
func (p *Pooled) holdError(out, data []byte, from, n int) []byte {
	start := max(len(data)-n, 0)
	out = append(out, data[from:max(from, start)]...)
	p.X.heldError = append(p.X.heldError, data[start:]...)
	if len(p.X.heldError) > maxHeldError {
		out = append(out, p.X.heldError...)
		p.X.heldError, p.X.errorPassing = nil, true
	}
	return out
}

// completes takes the entry away that a message answers, if it is of that kind.
func (p *Pooled) completes(kind byte, data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	if e := p.X.First(); e == nil || e.kind != kind {
		return out, from // part of a simple query's answer
	}
	p.done()
	return p.invented(data, out, from, ev)
}

// done takes away the entry that has been answered.
func (p *Pooled) done() {
	if e := p.X.First(); e.ends() {
		p.All.drop(e.stmt)
	}
	p.X.pop()
}

// invented lets the answers follow that are due to messages that weren't sent.
func (p *Pooled) invented(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	if e := p.X.First(); e == nil || e.Fate != Invent {
		return out, from
	}
	out = append(out, data[from:ev.Pos]...)
	return p.InventAnswers(out), ev.Pos
}

// InventAnswers appends the answers that it is the turn of now.
func (p *Pooled) InventAnswers(out []byte) []byte {
	for e := p.X.First(); e != nil && e.Fate == Invent; e = p.X.First() {
		typ := byte('1')
		if e.kind == 'C' {
			typ = '3'
		}
		out = append(out, typ, 0, 0, 0, 4)
		p.done()
	}
	return out
}

// parsedOrClosed takes a ParseComplete or CloseComplete, which may be ours.
func (p *Pooled) parsedOrClosed(kind byte, data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	e := p.X.First()
	if e == nil || e.kind != kind || ev.Length != 0 {
		p.Relay.Doubt = true
		return out, from
	}
	if kind == 'P' && e.on != nil {
		e.on.there = true
	}
	if e.Fate == swallow {
		if ev.Start < 0 {
			out = out[:len(out)-5] // its header, which was put back
		} else {
			out = append(out, data[from:ev.Start]...)
		}
		from = ev.Pos
	}
	p.done()
	return p.invented(data, out, from, ev)
}

// failed drops what the server skips after an error, up to the next Sync, and
// takes back what was noted for it.
func (p *Pooled) failed(code string) {
	x := p.X
	x.copying, x.errored = false, true
	e := x.First()
	switch {
	case e == nil || e.kind == 'F' || e.kind == 'S':
		return
	case e.kind == 'Q':
		p.undo(e)
		e.stmt = nil
		return
	}
	if e.on != nil && (e.kind == 'B' || e.kind == 'D') {
		p.statementFailed(code, e.on)
	}
	n := 0
	for n < x.len() && x.q[x.head+n].kind != 'S' {
		n++
	}
	for i := n - 1; i >= 0; i-- {
		p.undo(&x.q[x.head+i])
	}
	for x.len() > 0 && x.First().kind != 'S' {
		x.pop()
	}
	if x.len() == 0 {
		x.skipping, x.Unsynced = true, true
	}
}

// statementFailed looks whether a statement on the backend is still what it was.
func (p *Pooled) statementFailed(code string, on *onBackend) {
	switch code {
	case pgwire.CodeFeatureNotSupported: // "cached plan must not change result type"
		p.All.retire(on.key)
	case pgwire.CodeUndefinedStatement: // deallocated behind our back
		p.There.Clear()
		p.Dirty = true
	}
}

// undo takes back what was noted for a message that failed or is skipped.
func (p *Pooled) undo(e *owed) {
	switch {
	case e.kind == 'C' && e.on != nil:
		p.There.lost = append(p.There.lost, e.on.name)
	case e.kind == 'P' && e.unnamed != 0:
		if u := &p.unnamed; u.number == e.unnamed {
			u.here = u.here && e.Fate != swallow
			u.exists = u.exists && e.Fate == swallow
		}
	case e.kind == 'P':
		if e.on != nil {
			p.There.remove(e.on)
		}
		if e.stmt != nil && p.names[e.name] == e.stmt {
			p.unname(e.name, e.stmt)
			p.All.drop(e.stmt)
		}
	}
	switch {
	case !e.ends():
	case p.names[e.name] == nil:
		p.name(e.name, e.stmt)
	default:
		p.All.drop(e.stmt)
	}
}

// readyForQuery ends a batch; it reports whether one was expected to end.
func (p *Pooled) readyForQuery(status byte) bool {
	r := p.Relay
	e := p.X.First()
	if e == nil || e.kind != 'S' && e.kind != 'Q' && e.kind != 'F' || status == 0 {
		r.Doubt = true
		return false
	}
	p.done()
	p.X.copying, p.X.errored, p.described = false, false, false
	if p.X.Idle() {
		p.X.sets = false
	}
	if status != pgwire.TxIdle && r.Status == pgwire.TxIdle {
		r.Transactions++
	}
	r.Status = status
	return true
}

// tag looks for commands whose effect outlives the transaction, where another
// client would find it.
func (p *Pooled) tag(body []byte) {
	t, simple := traitAll, true
	if e := p.X.First(); e != nil {
		t, simple = e.traits, e.kind == 'Q'
	}
	described := p.described
	p.described = false
	tag := bytes.TrimRight(body, "\x00")
	if i := bytes.IndexByte(tag, ' '); i > 0 && len(tag) > i+1 && tag[i+1] <= '9' {
		tag = tag[:i] // without the count
	}
	switch string(tag) {
	case "SELECT":
		// CREATE TABLE AS and SELECT INTO say this as well, but return no rows.
		if t&traitTemp != 0 && !(simple && described) {
			p.Dirty = true
		}
	case "SET":
		p.Dirty = p.Dirty || t&traitLasting != 0
	case "DECLARE CURSOR":
		p.Dirty = p.Dirty || t&traitHold != 0
	case "CREATE TABLE", "CREATE TABLE AS", "CREATE VIEW", "CREATE SEQUENCE":
		p.Dirty = p.Dirty || t&traitTemp != 0
	case "LISTEN", "PREPARE", "LOAD", "DO":
		p.Dirty = true
	case "DISCARD ALL", "DEALLOCATE ALL":
		p.There.Clear()
		p.forgetNames()
		if string(tag) == "DISCARD ALL" {
			p.Dirty, p.Discarded = false, true
		}
	}
}

// forgetNames drops the names that the client has given, but for those of which
// the Parse is still under way.
func (p *Pooled) forgetNames() {
	for name, st := range p.names {
		if p.X == nil || p.X.pending(name, st) == nil {
			p.unname(name, st)
			p.All.drop(st)
		}
	}
	if len(p.names) == 0 {
		p.names = nil
	}
}

// Forget ends the holding of all statements, when the client has left.
func (p *Pooled) Forget() {
	for _, st := range p.names {
		p.All.drop(st)
	}
	p.names, p.text = nil, 0
	if p.X == nil {
		return
	}
	for _, e := range p.X.q[p.X.head:] {
		if e.ends() {
			p.All.drop(e.stmt)
		}
	}
}
