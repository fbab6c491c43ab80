package worker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// The flow of bytes in the transaction pipeline, where a statement that a client
// prepared must be found on whatever backend it gets:
//
//  1. clientBytes copies a chunk from the client to out. Messages that name a
//     prepared statement get the name it has on this backend, behind a Parse of
//     ours if it isn't there yet (prepare). A Parse of something that the backend
//     has already isn't sent at all.
//  2. Each message that will be answered is noted in the backend's exchange.
//  3. serverBytes copies a chunk from the server to out, without the answers to
//     messages of ours, and with those to messages that weren't sent (answer).
//  4. When nothing is owed, the session gives the backend back.
//
// A header that a chunk ends in is held back if its message may have to be
// changed; all other bytes are passed on as they come, so a message of any size
// costs no memory. Messages that are changed are collected: a Parse as a whole, a
// Bind up to its names.

const (
	// maxParse is the largest Parse message of a named statement, in bytes.
	maxParse = 16 << 20
	// maxUnnamed is the longest unnamed statement that is kept for a Bind in a
	// later transaction, in bytes.
	maxUnnamed = 64 << 10
	// maxNames is how long the two names in a Bind may be together, in bytes.
	maxNames = 64 << 10
)

// pooled is what a session of the transaction pipeline has beside its relay.
type pooled struct {
	relay *relay
	all   *statements // of the worker
	x     *exchange   // of the backend at hand, nil without
	there *prepared   // of the backend at hand
	// names are the client's prepared statements.
	names map[string]*statement
	// unnamed is the body of the last Parse without a name, behind the name;
	// unnamedHere says that the backend at hand has it.
	unnamed     []byte
	unnamedHere bool
	// tracked are the values of the tracked parameters, as the client knows them.
	tracked unique.Handle[settings]
	// partial is a message that is being collected, need its whole length.
	partial []byte
	need    int
	// heldUp and heldDown are the types of headers that were held back.
	heldUp, heldDown byte
	// stash is what the client said while it had no backend.
	stash []byte
	// dirty: something was done that another client must not find.
	dirty bool
	ready bool // the client has been welcomed
}

var pooledClient, pooledServer = pooledInterests()

func pooledInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S', 'C')
	server.Set(pgwire.AtHeader, 'G', 'W', '1', '3')
	server.Set(pgwire.AtEnd, '2', 'n', 'T', 's', 'I')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// heldBack reports whether messages of a type may have to be changed.
func heldBack(in *pgwire.Interests, typ byte) bool { return in[typ]&pgwire.AtHeader != 0 }

// holdBack returns how many bytes at the end of a chunk are kept for later: the
// beginning of a header. The scanner keeps them; header gives them back.
func holdBack(sc *pgwire.Scanner, in *pgwire.Interests, chunk []byte, held *byte) int {
	n := sc.SplitHeader()
	if n == 0 {
		return 0
	}
	if n <= len(chunk) {
		*held = chunk[len(chunk)-n]
	}
	if !heldBack(in, *held) {
		return 0
	}
	return min(n, len(chunk))
}

func header(dst []byte, ev *pgwire.Event) []byte {
	return binary.BigEndian.AppendUint32(append(dst, ev.Type), uint32(ev.Length+4))
}

// clientBytes appends to out what the server is to get of data.
func (p *pooled) clientBytes(data, out []byte) (_ []byte, leaving bool, err error) {
	from, err := p.collect(data, &out)
	if err != nil {
		return out, false, err
	}
	var ev pgwire.Event
	for pos := 0; ; {
		if pos, err = p.relay.up.Next(data, pos, &ev); err != nil {
			p.relay.doubt = true
			return out, false, err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		if ev.Start > from {
			out = append(out, data[from:ev.Start]...)
		}
		from = max(from, ev.Start)
		switch ev.Type {
		case 'X':
			p.relay.goodbye()
			return out, true, nil
		case 'P', 'B', 'D', 'C':
			from, err = p.change(data, &ev, &out)
			if err != nil {
				return out, false, err
			}
		default:
			p.note(ev.Type)
			if ev.Start < 0 {
				out = header(out, &ev)
				from = ev.Pos
			}
		}
	}
	end := len(data) - holdBack(&p.relay.up, pooledClient, data, &p.heldUp)
	if from < end {
		out = append(out, data[from:end]...)
	}
	p.relay.sent += uint64(len(data))
	return out, false, nil
}

// note takes note of a message that is passed on as it is.
func (p *pooled) note(typ byte) {
	switch typ {
	case 'Q':
		p.relay.queries++
		p.unnamed = nil // a simple query ends it, as in PostgreSQL
		p.x.push('Q', pass)
	case 'E':
		p.relay.queries++
		p.x.push('E', pass)
	case 'F':
		p.x.push('F', pass)
	case 'S':
		p.x.push('S', pass)
	}
}

// change handles a message that may name a statement, or begins to collect it.
// It returns where the rest of the chunk begins.
func (p *pooled) change(data []byte, ev *pgwire.Event, out *[]byte) (int, error) {
	if end := ev.Pos + ev.Length; end <= len(data) {
		*out = p.message(*out, ev.Type, data[ev.Pos:end])
		return end, nil
	}
	if ev.Length > maxParse && ev.Type != 'B' {
		return 0, errors.New("message of a prepared statement is too long")
	}
	p.partial = header(p.partial[:0], ev)
	p.need = ev.Length + len(p.partial)
	p.partial = append(p.partial, data[ev.Pos:]...)
	return len(data), p.early(out)
}

// collect adds the beginning of a chunk to the message that is being collected.
func (p *pooled) collect(data []byte, out *[]byte) (int, error) {
	if p.need == 0 {
		return 0, nil
	}
	n := min(p.need-len(p.partial), len(data))
	p.partial = append(p.partial, data[:n]...)
	if len(p.partial) == p.need {
		*out = p.message(*out, p.partial[0], p.partial[5:])
		p.collected()
		return n, nil
	}
	return n, p.early(out)
}

// early passes a Bind on as soon as its names are there; what follows them may
// be long, and needs no change.
func (p *pooled) early(out *[]byte) error {
	if p.partial[0] != 'B' {
		return nil
	}
	body := p.partial[5:]
	i := bytes.IndexByte(body, 0)
	if i < 0 || bytes.IndexByte(body[i+1:], 0) < 0 {
		if len(body) > maxNames {
			return errors.New("names in a Bind message are too long")
		}
		return nil
	}
	*out = p.bind(*out, body, p.need-5)
	p.collected()
	return nil
}

func (p *pooled) collected() {
	p.need = 0
	p.partial = p.partial[:0]
	if cap(p.partial) > 4096 {
		p.partial = nil
	}
}

// message appends a complete message, changed as the backend needs it. One that
// is malformed is left to the server to refuse.
func (p *pooled) message(out []byte, typ byte, body []byte) []byte {
	switch typ {
	case 'P':
		return p.parse(out, body)
	case 'B':
		return p.bind(out, body, len(body))
	case 'D':
		return p.describe(out, body)
	}
	return p.closeStatement(out, body)
}

func (p *pooled) parse(out, body []byte) []byte {
	name, tail, ok := bytes.Cut(body, []byte{0})
	if !ok {
		p.x.push('P', pass)
		return pgwire.AppendMessage(out, 'P', body)
	}
	if len(name) == 0 {
		p.unnamed, p.unnamedHere = nil, true
		if len(tail) <= maxUnnamed {
			p.unnamed = append([]byte{}, tail...)
		}
		p.x.push('P', pass)
		return pgwire.AppendMessage(out, 'P', body)
	}
	if old := p.names[string(name)]; old != nil {
		// The server refuses it: the name is taken, there as well.
		var on *onBackend
		out, on = p.prepare(out, old)
		p.x.push('P', pass)
		return appendParse(out, on.name(), tail)
	}
	st := p.all.hold(tail, p.tracked)
	if p.names == nil {
		p.names = make(map[string]*statement)
	}
	p.names[string(name)] = st
	if p.there.get(st) != nil {
		p.x.pushParse(invent, st, string(name))
		return out
	}
	out, on := p.add(out, st)
	p.x.pushParse(pass, st, string(name))
	return appendParse(out, on.name(), tail)
}

// add makes room for a statement on the backend.
func (p *pooled) add(out []byte, st *statement) ([]byte, *onBackend) {
	on, evicted := p.there.add(st)
	if evicted != nil {
		p.x.push('C', swallow)
		out = pgwire.AppendMessage(out, 'C', append([]byte{'S'}, evicted.name()+"\x00"...))
	}
	return out, on
}

// prepare has a statement on the backend, by a Parse of ours if need be.
func (p *pooled) prepare(out []byte, st *statement) ([]byte, *onBackend) {
	if on := p.there.get(st); on != nil {
		return out, on
	}
	out, on := p.add(out, st)
	p.x.pushParse(swallow, st, "")
	return appendParse(out, on.name(), []byte(st.tail)), on
}

func appendParse(out []byte, name string, tail []byte) []byte {
	out = binary.BigEndian.AppendUint32(append(out, 'P'), uint32(4+len(name)+1+len(tail)))
	out = append(append(out, name...), 0)
	return append(out, tail...)
}

// bind appends a Bind of which body is the beginning, at least the names, and
// length the length of the whole.
func (p *pooled) bind(out, body []byte, length int) []byte {
	portal, rest, _ := bytes.Cut(body, []byte{0})
	name, tail, ok := bytes.Cut(rest, []byte{0})
	newName := string(name)
	switch st := p.names[string(name)]; {
	case !ok:
	case len(name) == 0 && !p.unnamedHere && p.unnamed != nil:
		p.unnamedHere = true
		p.x.push('P', swallow)
		out = appendParse(out, "", p.unnamed)
	case st != nil:
		var on *onBackend
		out, on = p.prepare(out, st)
		newName = on.name()
	}
	p.x.push('B', pass)
	if !ok || newName == string(name) {
		out = binary.BigEndian.AppendUint32(append(out, 'B'), uint32(4+length))
		return append(out, body...)
	}
	out = binary.BigEndian.AppendUint32(append(out, 'B'), uint32(4+length-len(name)+len(newName)))
	out = append(append(out, portal...), 0)
	out = append(append(out, newName...), 0)
	return append(out, tail...)
}

func (p *pooled) describe(out, body []byte) []byte {
	if name, ok := statementName(body); ok {
		if st := p.names[name]; st != nil {
			var on *onBackend
			out, on = p.prepare(out, st)
			body = append([]byte{'S'}, on.name()+"\x00"...)
		} else if name == "" && !p.unnamedHere && p.unnamed != nil {
			p.unnamedHere = true
			p.x.push('P', swallow)
			out = appendParse(out, "", p.unnamed)
		}
	}
	p.x.push('D', pass)
	return pgwire.AppendMessage(out, 'D', body)
}

// closeStatement: the statement stays on the backend for those who have the same.
func (p *pooled) closeStatement(out, body []byte) []byte {
	if name, ok := statementName(body); ok {
		if st := p.names[name]; st != nil {
			delete(p.names, name)
			p.all.drop(st)
			p.x.push('C', invent)
			return out
		}
		if name == "" {
			p.unnamed = nil
		}
	}
	p.x.push('C', pass)
	return pgwire.AppendMessage(out, 'C', body)
}

// statementName returns the name in a Describe or Close of a statement.
func statementName(body []byte) (string, bool) {
	if len(body) < 2 || body[0] != 'S' || body[len(body)-1] != 0 {
		return "", false
	}
	return string(body[1 : len(body)-1]), true
}

// invented appends the answers that are due to messages that weren't sent.
func (p *pooled) invented(out []byte) []byte {
	for e := p.x.first(); e != nil && e.fate == invent; e = p.x.first() {
		typ := byte('1')
		if e.kind == 'C' {
			typ = '3'
		}
		out = append(out, typ, 0, 0, 0, 4)
		p.x.pop()
	}
	return out
}

// serverBytes appends to out what the client is to get of data.
func (p *pooled) serverBytes(data, out []byte) ([]byte, error) {
	r := p.relay
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
			from = 0 // its header was held back
			out = header(out, &ev)
			from = ev.Pos
		}
		out, from = p.answer(data, out, from, &ev)
	}
	end := len(data) - holdBack(&r.down, pooledServer, data, &p.heldDown)
	if from < end {
		out = append(out, data[from:end]...)
	}
	r.received += uint64(len(data))
	return out, nil
}

// answer handles one message of the server; bytes of data before from are in out.
func (p *pooled) answer(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	r := p.relay
	switch ev.Type {
	case '1', '3':
		return p.parsedOrClosed(data, out, from, ev)
	case '2':
		return p.completes('B', data, out, from, ev)
	case 'T', 'n':
		return p.completes('D', data, out, from, ev)
	case 's', 'I':
		return p.completes('E', data, out, from, ev)
	case 'C':
		p.tag(ev.Body)
		return p.completes('E', data, out, from, ev)
	case 'E':
		r.serverError(ev.Body)
		p.failed(pgwire.ParseError(ev.Body).Code)
	case 'S':
		r.params.status(ev.Body)
	case 'G':
		if e := p.x.first(); e != nil && e.kind == 'E' && !p.x.unsync() {
			r.doubt = true
		}
	case 'W':
		r.doubt = true
	case 'Z':
		p.readyForQuery(ev.Status())
	}
	return out, from
}

// completes pops the entry that a message answers, if it is of that kind, and
// lets answers of ours follow.
func (p *pooled) completes(kind byte, data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	if e := p.x.first(); e == nil || e.kind != kind {
		return out, from // part of a simple query's answer
	}
	p.x.pop()
	if e := p.x.first(); e != nil && e.fate == invent {
		out = append(out, data[from:ev.Pos]...)
		return p.invented(out), ev.Pos
	}
	return out, from
}

// parsedOrClosed takes a ParseComplete or CloseComplete, which may be ours.
func (p *pooled) parsedOrClosed(data, out []byte, from int, ev *pgwire.Event) ([]byte, int) {
	kind := byte('P')
	if ev.Type == '3' {
		kind = 'C'
	}
	e := p.x.first()
	if e == nil || e.kind != kind || ev.Length != 0 {
		p.relay.doubt = true
		return out, from
	}
	if e.stmt != nil {
		p.there.confirm(e.stmt)
	}
	if e.fate == swallow {
		if ev.Start < 0 {
			out = out[:len(out)-5] // its header, which was put back above
		} else {
			out = append(out, data[from:ev.Start]...)
		}
		from = ev.Pos
	}
	p.x.pop()
	if e := p.x.first(); e != nil && e.fate == invent {
		out = append(out, data[from:ev.Pos]...)
		return p.invented(out), ev.Pos
	}
	return out, from
}

// failed drops what the server skips after an error, up to the next Sync, and
// takes back the names that were given in it.
func (p *pooled) failed(code string) {
	e := p.x.first()
	if e == nil || e.kind == 'Q' || e.kind == 'F' || e.kind == 'S' {
		return
	}
	if code == pgwire.CodeUndefinedStatement || code == pgwire.CodeFeatureNotSupported {
		// A statement went behind our back, or its result type has changed: all are
		// prepared again, under new names.
		p.there.clear()
		p.dirty = true
	}
	for ; e != nil && e.kind != 'S'; e = p.x.first() {
		if e.name != "" && p.names[e.name] == e.stmt {
			delete(p.names, e.name)
			p.all.drop(e.stmt)
		}
		p.x.pop()
	}
}

func (p *pooled) readyForQuery(status byte) {
	r := p.relay
	e := p.x.first()
	if e == nil || e.kind != 'S' && e.kind != 'Q' && e.kind != 'F' || status == 0 {
		r.doubt = true
		return
	}
	p.x.pop()
	if status != pgwire.TxIdle && r.status == pgwire.TxIdle {
		r.transactions++
	}
	r.status = status
}

// tag looks for commands whose effect outlives the transaction, where another
// client would find it.
func (p *pooled) tag(body []byte) {
	if len(body) < 3 || body[0] == 'S' && body[2] == 'L' || body[0] == 'I' || body[0] == 'U' || body[0] == 'B' {
		return // SELECT, INSERT, UPDATE, BEGIN: nearly always
	}
	tag := string(bytes.TrimRight(body, "\x00"))
	switch tag {
	case "DISCARD ALL", "DEALLOCATE ALL":
		p.there.clear()
		p.forget()
		p.dirty = p.dirty && tag != "DISCARD ALL"
	case "SET", "LISTEN", "PREPARE", "DECLARE CURSOR", "CREATE TABLE", "CREATE TABLE AS", "CREATE VIEW", "CREATE SEQUENCE", "LOAD", "DO":
		p.dirty = true
	}
}

// forget drops all names of the client.
func (p *pooled) forget() {
	for _, name := range slices.Collect(maps.Keys(p.names)) {
		p.all.drop(p.names[name])
	}
	p.names, p.unnamed = nil, nil
}
