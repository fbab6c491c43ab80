package relay

import (
	"bytes"
	"strings"
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// serverBytes appends to out what data becomes on its way to the client.
func (p *Pooled) serverBytes(data, out []byte) ([]byte, error) {
	r := p.line
	var ev pgwire.Event
	from := 0
	for pos := 0; ; {
		var err error
		if pos, err = r.down.Next(data, pos, &ev); err != nil {
			r.doubt = true
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
	end := len(data) - holdBack(&r.down, pooledServer, data)
	if typ, n := r.down.Open(); typ == 'E' && !p.x.errorPassing {
		out = p.holdError(out, data, from, n)
		from = end
	}
	switch {
	case from >= end:
	case p.x.sinks:
		p.swallow(data[from:end])
	default:
		out = append(out, data[from:end]...)
	}
	r.totals.Received += uint64(len(data))
	return out, nil
}

// answer handles one message of the server. out has the bytes of data before from.
func (p *Pooled) answer(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	r := p.line
	switch ev.Type {
	case '1':
		return p.parsedOrClosed('P', data, out, from, ev)
	case '3':
		return p.parsedOrClosed('C', data, out, from, ev)
	case '2':
		return p.completes('B', data, out, from, ev)
	case 't', 'T', 'n':
		return p.description(data, out, from, ev)
	case 's', 'I':
		p.leaves()
		return p.completes('E', data, out, from, ev)
	case 'C':
		p.tag(ev.Body)
		return p.completes('E', data, out, from, ev)
	case 'E':
		return p.serverError(data, out, from, ev)
	case 'S':
		r.b.reported(ev.Body)
	case 'G':
		if e := p.x.first(); e != nil && (e.kind == 'E' || e.kind == 'Q') {
			p.x.copyIn()
		}
	case 'W':
		r.doubt = true
	case 'Z':
		if p.readyForQuery(ev.Status()) {
			return p.invented(data, out, from, ev)
		}
	}
	return out, from
}

// serverError handles an error. A FATAL error, with which the server closes, isn't
// passed on: the client stays, and lose tells it what it has lost.
func (p *Pooled) serverError(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	p.line.serverError(ev.Body)
	f := pgwire.ParseError(ev.Body)
	held := p.x.heldError
	p.x.heldError = nil
	switch {
	case p.x.errorPassing:
		p.x.errorPassing = false
	case f.Fatal():
		p.x.farewell = f.Code + ": " + f.Message
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		return out, ev.Pos
	case p.replaces(tooMany):
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		out, from = appendOverLimit(out), ev.Pos
	case p.replaces(outdated), p.runs(traitOutdated) && strings.Contains(f.Message, noStatement):
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		out, from = appendOutdated(out), ev.Pos
	case p.replaces(unheard):
		if ev.Start >= 0 {
			out = append(out, data[from:ev.Start]...)
		}
		out, from = appendUnheard(out), ev.Pos
	default:
		out = append(out, held...)
	}
	p.failed(f.Code)
	return out, from
}

// replaces reports whether an error that has just come must be replaced because of fate.
func (p *Pooled) replaces(because fate) bool {
	e := p.x.first()
	return e != nil && e.fate == because
}

// runs reports whether a statement with a trait is being answered.
func (p *Pooled) runs(t traits) bool {
	e := p.x.first()
	return e != nil && e.traits&t != 0
}

// maxHeldError is the longest part of an error, in bytes, that is held back.
const maxHeldError = 64 << 10

// holdError holds back the last n bytes of a chunk, which are the first part of an
// error.
func (p *Pooled) holdError(out, data []byte, from, n int) []byte {
	start := max(len(data)-n, 0)
	out = append(out, data[from:max(from, start)]...)
	p.x.heldError = append(p.x.heldError, data[start:]...)
	if len(p.x.heldError) > maxHeldError {
		out = append(out, p.x.heldError...)
		p.x.heldError, p.x.errorPassing = nil, true
	}
	return out
}

// completes removes the oldest entry if it is of the kind that a message answers.
func (p *Pooled) completes(kind byte, data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	if e := p.x.first(); e == nil || e.kind != kind {
		return out, from // part of the answer to a Query
	}
	p.done()
	return p.invented(data, out, from, ev)
}

// description handles the beginning or the end of a message that describes a statement
// or a portal. The answer to a Describe of the relay is collected.
func (p *Pooled) description(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	e := p.x.first()
	switch ours := e != nil && e.kind == 'D' && e.fate == swallow; {
	case ours && ev.Phase == pgwire.Header:
		if ev.Start < 0 {
			out = out[:len(out)-5] // without its header, which was held back and written again
		} else {
			out = append(out, data[from:ev.Start]...)
		}
		p.x.sinks = true
		return out, ev.Pos
	case ours:
		p.swallow(data[from:ev.Pos])
		p.swallowed(ev.Type)
		return p.invented(data, out, ev.Pos, ev)
	case ev.Phase == pgwire.Header || ev.Type == 't':
		return out, from
	}
	if ev.Type == 'T' {
		p.x.described = true
	}
	return p.completes('D', data, out, from, ev)
}

// done removes the entry that has been answered.
func (p *Pooled) done() {
	e := p.x.first()
	if e.ends() {
		p.shared.statements.drop(e.stmt)
	}
	p.ended(e, false)
	p.x.pop()
}

// invented appends the answers to messages that weren't sent, if it is their turn.
func (p *Pooled) invented(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	if e := p.x.first(); e == nil || e.fate != invent {
		return out, from
	}
	out = append(out, data[from:ev.Pos]...)
	return p.inventAnswers(out), ev.Pos
}

// inventAnswers appends the answers to the messages at the front of the exchange that
// weren't sent.
func (p *Pooled) inventAnswers(out []byte) []byte {
	for e := p.x.first(); e != nil && e.fate == invent; e = p.x.first() {
		typ := byte('1')
		if e.kind == 'C' {
			typ = '3'
		}
		out = append(out, typ, 0, 0, 0, 4)
		p.done()
	}
	return out
}

// parsedOrClosed handles a ParseComplete or CloseComplete, which may answer a message
// that the relay added.
func (p *Pooled) parsedOrClosed(kind byte, data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	e := p.x.first()
	if e == nil || e.kind != kind || ev.Length != 0 {
		p.line.doubt = true
		return out, from
	}
	if kind == 'P' && e.on != nil {
		e.on.there = true
	}
	if e.fate == swallow {
		if ev.Start < 0 {
			out = out[:len(out)-5] // without its header, which was held back and written again
		} else {
			out = append(out, data[from:ev.Start]...)
		}
		from = ev.Pos
	}
	p.done()
	return p.invented(data, out, from, ev)
}

// failed removes the entries that the server skips after an error, up to the next
// Sync, and undoes them.
func (p *Pooled) failed(code string) {
	x := p.x
	x.copying, x.errored = false, true
	e := x.first()
	switch {
	case e == nil || e.kind == 'F' || e.kind == 'S':
		return
	case e.kind == 'Q':
		p.leaves()
		if e.on != nil {
			p.statementFailed(code, e.on)
		}
		p.undo(e)
		e.endings = nil
		return
	}
	p.leaves()
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
	for x.len() > 0 && x.first().kind != 'S' {
		x.pop()
	}
	if x.len() == 0 {
		x.skipping, x.unsynced = true, true
		x.waits = false // the Describe that was waited for was the last message
	}
	x.unsay()
}

// statementFailed handles an error that says something about a statement on the
// backend: it is out of date or gone.
//
// Most errors of a Bind concern only its parameters. The errors listed here may come from
// a changed schema, so a new Parse may succeed. Errors of an Execute don't count: the
// server has brought the statement up to date at the Bind.
func (p *Pooled) statementFailed(code string, on *onBackend) {
	switch {
	case code == pgwire.CodeUndefinedStatement: // deallocated by a function or DO
		p.there().forsakeAll()
		p.x.dirty = true
	case code == pgwire.CodeFeatureNotSupported, strings.HasPrefix(code, "42"), strings.HasPrefix(code, "XX"):
		p.there().forsake(on)
	}
}

// undo takes back what was recorded for a message that failed or was skipped.
func (p *Pooled) undo(e *owed) {
	switch {
	case e.kind == 'C' && e.on != nil:
		there := p.there()
		there.lost = append(there.lost, e.on.name)
	case e.kind == 'P' && e.unnamed != 0:
		if u := &p.unnamed; u.number == e.unnamed {
			u.here = u.here && e.fate != swallow
			u.exists = u.exists && e.fate == swallow
		}
	case e.kind == 'P':
		if e.on != nil {
			p.there().remove(e.on)
		}
		if e.stmt != nil && p.names[e.name] == e.stmt {
			p.unname(e.name, e.stmt)
			p.shared.statements.drop(e.stmt)
		}
	}
	if e.ends() {
		p.rename(e.name, e.stmt)
	}
	p.ended(e, true)
}

// rename gives a statement the client's name back, unless that is taken.
func (p *Pooled) rename(name string, st *statement) {
	if p.names[name] == nil {
		p.name(name, st.current())
	} else {
		p.shared.statements.drop(st)
	}
}

// readyForQuery ends a batch. It reports whether the end of a batch was owed.
func (p *Pooled) readyForQuery(status byte) bool {
	r := p.line
	e := p.x.first()
	if e == nil || e.kind != 'S' && e.kind != 'Q' && e.kind != 'F' || status == 0 {
		r.doubt = true
		return false
	}
	p.x.dirty = p.x.dirty || e.kind == 'F' // a FunctionCall names its function only by an OID
	if p.line.keep != nil {
		p.line.keep.ready(e, p.x.errored, status)
	}
	p.noteTracked(e, status)
	p.done()
	p.x.copying, p.x.errored, p.x.described = false, false, false
	if p.x.idle() {
		p.x.sets = false
	}
	if status != pgwire.TxIdle && r.b.Status == pgwire.TxIdle {
		r.totals.Transactions++
	}
	r.b.Status = status
	r.b.Steps++
	return true
}

// noteTracked notes the tracked parameters, which the client has again when it loses a block that begins
// now. status answers e.
func (p *Pooled) noteTracked(e *owed, status byte) {
	now := p.line.b.Params.settings()
	switch k := p.line.keep; {
	case now == p.tracked:
	case status == pgwire.TxIdle:
		p.tracked = now
		if p.line.b.resets && p.ready() {
			p.tracked = p.restored(now)
		}
	case k == nil || !k.chained:
	case e.kind == 'Q' && !e.several:
		p.tracked = now
	default: // it may have changed after the COMMIT
		k.answered(&Effect{Mark: markOutcome})
	}
	if k := p.line.keep; k != nil {
		k.chained = false
	}
}

// restored returns what Restore is going to make of the tracked parameters.
func (p *Pooled) restored(now unique.Handle[settings]) unique.Handle[settings] {
	v := now.Value()
	for i, name := range tracked {
		if p.line.b.atBase(name) {
			v.values[i] = p.initial.Value().values[i]
		}
	}
	return unique.Make(v)
}

// tag marks the backend dirty if a command tag says that its effect outlives the
// transaction, where another client would find it.
func (p *Pooled) tag(body []byte) {
	t, simple := traitAll, true
	if e := p.x.first(); e != nil {
		t, simple = e.traits, e.kind == 'Q'
	}
	described := p.x.described
	p.x.described = false
	if !simple {
		p.line.b.Steps++
	}
	p.leaves()
	tag := bytes.TrimRight(body, "\x00")
	if i := bytes.IndexByte(tag, ' '); i > 0 && len(tag) > i+1 && tag[i+1] <= '9' {
		tag = tag[:i] // without the number of rows
	}
	if e := p.x.first(); p.line.keep != nil && e != nil {
		p.line.keep.tag(string(tag), e)
	}
	switch string(tag) {
	case "SELECT":
		// CREATE TABLE AS and SELECT INTO say this as well, but return no rows.
		if t&traitTemp != 0 && !(simple && described) {
			p.x.dirty = true
		}
	case "RESET":
		p.line.b.resets = true
	case "SET":
		p.line.b.resets = true // TO DEFAULT
		p.x.dirty = p.x.dirty || t&traitLasting != 0
	case "DECLARE CURSOR":
		p.x.dirty = p.x.dirty || t&traitHold != 0
	case "CREATE TABLE", "CREATE TABLE AS", "CREATE VIEW", "CREATE SEQUENCE":
		p.x.dirty = p.x.dirty || t&traitTemp != 0
	case "LISTEN", "PREPARE", "LOAD", "DO":
		p.x.dirty = true
	case "DEALLOCATE":
		if e := p.x.first(); e != nil {
			e.confirm()
		}
	case "DISCARD ALL", "DEALLOCATE ALL":
		p.there().clear()
		p.forgetNames()
		if string(tag) == "DISCARD ALL" {
			p.x.dirty, p.x.sequences, p.line.b.resets = false, false, true
		}
	}
}

// leaves notes what the statement leaves behind that has just been answered: also after
// an error, because no rollback takes an advisory lock back.
func (p *Pooled) leaves() {
	e := p.x.first()
	if e == nil || e.kind != 'E' && e.kind != 'Q' {
		return
	}
	if p.line.keep != nil {
		p.line.keep.answered(e.effect)
	}
	p.x.dirty = p.x.dirty || e.traits&traitSession != 0
	b := p.line.b
	b.Indelible = b.Indelible || e.traits&traitIndelible != 0 && !e.traits.unknown()
	p.x.sequences = p.x.sequences || e.traits&traitSequence != 0
}

// forgetNames drops all of the client's names but those whose Parse is unanswered.
func (p *Pooled) forgetNames() {
	for name, st := range p.names {
		if p.x == nil || p.x.pending(name, st) == nil {
			p.unname(name, st)
			p.shared.statements.drop(st)
		}
	}
	if len(p.names) == 0 {
		p.names = nil
	}
}

// forget releases all statements, when the client has left.
func (p *Pooled) forget() {
	for _, st := range p.names {
		p.shared.statements.drop(st)
	}
	p.names, p.text = nil, 0
	if p.x == nil {
		return
	}
	for _, e := range p.x.q[p.x.head:] {
		if e.ends() {
			p.shared.statements.drop(e.stmt)
		}
		p.ended(&e, false)
	}
}
