package relay

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// The flow of bytes in the transaction pipeline, where a client must find its
// prepared statements on each backend that it gets:
//
//  1. While the client has no backend, awaken (lost.go) reads its bytes. It drops
//     messages that need no backend, answers messages whose transaction was lost
//     with the last backend, and returns the rest.
//  2. clientBytes copies a chunk from the client to out. In messages that name a
//     prepared statement it puts the statement's name on this backend, after a Parse
//     that it adds if the backend doesn't have the statement (prepare). What comes
//     after that waits until the server has described the statement (described.go).
//  3. For each message that the server will answer, it adds an entry to the backend's
//     exchange.
//  4. serverBytes (answers.go) copies a chunk from the server to out. It removes the
//     answers to added messages, and adds answers to dropped ones. resume goes on with
//     what had to wait.
//  5. When the server owes nothing and no transaction block is open, the session gives
//     the backend back.
//
// When a chunk ends inside the header of a message that may have to be changed, that
// part of the header is held back. All other bytes are passed on as they come, so a
// message of any size costs no memory. Only messages that are changed are collected:
// a Parse as a whole, a Bind up to its names.

const (
	// maxParse is the largest Parse message that is collected, in bytes. A larger Parse
	// of a named statement is an error. A larger Parse of the unnamed statement is
	// passed on as it comes, and the statement ends with its transaction.
	maxParse = 16 << 20
	// maxUnnamed is the longest unnamed statement, in bytes, that is kept for the next
	// transaction after it was used.
	maxUnnamed = 64 << 10
	// maxNames is the most bytes that the two names in a Bind may have together.
	maxNames = 64 << 10
	// maxCollect is the longest Query, in bytes, that is collected from several chunks,
	// so that its text can be read.
	maxCollect = 256 << 10
	// noStatement is the name of a statement that doesn't exist. Using it makes the
	// server send the right error.
	noStatement = "pgagroal_none"
	// emptyStatement is the name of a statement without text. It takes the place of a
	// client's statement, which other clients may still use, when the client
	// deallocates it or prepares another statement of the same name.
	emptyStatement = "pgagroal_empty"
)

var pooledClient, pooledServer = pooledInterests()

func pooledInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X', 'c', 'f')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S', 'C')
	server.Set(pgwire.AtHeader, 'G', 'W', '1', '3')
	server.Set(pgwire.AtEnd, '2', 's', 'I')
	server.Set(pgwire.AtHeader|pgwire.AtEnd, 't', 'n', 'T')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// holdBack returns how many bytes at the end of a chunk are held back: the first part
// of a header. The scanner keeps these bytes, and header writes them again.
func holdBack(sc *pgwire.Scanner, in *pgwire.Interests, chunk []byte) int {
	n := sc.SplitHeader()
	if n == 0 {
		return 0
	}
	if typ, _ := sc.Open(); in[typ]&(pgwire.AtHeader|pgwire.Refuse) == 0 {
		return 0
	}
	return min(n, len(chunk))
}

func header(dst []byte, ev *pgwire.Event) []byte {
	return binary.BigEndian.AppendUint32(append(dst, ev.Type), uint32(ev.Length+4))
}

// clientBytes appends to out what data becomes on its way to the server.
func (p *Pooled) clientBytes(data, out []byte) (_ []byte, leaving bool, err error) {
	from, err := p.collect(data, &out)
	if err != nil || p.x.waits {
		p.line.totals.Sent += uint64(len(data) - len(p.x.held)) // modulo 2^64, if an earlier chunk is held
		return out, false, err
	}
	var ev pgwire.Event
	for pos := 0; ; {
		if pos, err = p.line.up.Next(data, pos, &ev); err != nil {
			p.line.doubt = true
			return out, false, err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		if ev.Start > from {
			out = append(out, data[from:ev.Start]...)
		}
		from = max(from, ev.Start)
		switch {
		case ev.Type == 'X':
			p.line.goodbye()
			return out, true, nil
		case p.collects(&ev):
			if from, err = p.change(data, &ev, &out); err != nil || p.x.waits {
				p.line.totals.Sent += uint64(len(data) - len(p.x.held))
				return out, false, err
			}
		case ev.Type == 'S' && p.x.copying:
			from = ev.Pos // the server would ignore this Sync, unless its COPY has just failed
		default:
			p.note(ev.Type, traitAll)
			if ev.Start < 0 {
				out = header(out, &ev)
				from = ev.Pos
			}
		}
	}
	end := len(data) - holdBack(&p.line.up, pooledClient, data)
	if from < end {
		out = append(out, data[from:end]...)
	}
	p.line.totals.Sent += uint64(len(data))
	return out, false, nil
}

// collects reports whether a message must be read as a whole.
func (p *Pooled) collects(ev *pgwire.Event) bool {
	switch ev.Type {
	case 'Q':
		return ev.Length <= maxCollect && !p.x.skipping
	case 'P', 'B', 'D', 'C':
		return !p.x.skipping
	}
	return false
}

// note records a message that is passed on unchanged.
func (p *Pooled) note(typ byte, t traits) {
	x := p.x
	if x.skipping {
		if typ != 'S' {
			return
		}
		x.skipping = false
	}
	switch typ {
	case 'Q':
		p.line.totals.Queries++
		p.unnamed.exists, p.unnamed.here = false, true // as in PostgreSQL
		x.sets = x.sets || t&traitSets != 0
		x.push(owed{kind: 'Q', traits: t})
		if p.line.keep != nil && t.unknown() {
			x.last().effect = p.line.keep.reader.Unread("a text that is too long to be read")
		}
	case 'E':
		p.line.totals.Queries++
		t = p.portal | p.portals
		x.sets = x.sets || t&traitSets != 0
		x.push(owed{kind: 'E', traits: t})
		if p.line.keep != nil {
			x.last().effect, x.last().several = p.line.keep.executes(), p.portals != 0
		}
	case 'F':
		x.push(owed{kind: 'F', effect: p.unread("a function that was called by its number")})
	case 'S', 'P', 'B', 'D', 'C':
		x.push(owed{kind: typ})
	case 'c', 'f':
		if !x.copying && x.len() > 0 {
			x.push(owed{kind: copyEnd})
		}
		x.copying = false
	}
}

// change handles a message that may name a statement, or begins to collect it.
// It returns where the rest of the chunk begins.
func (p *Pooled) change(data []byte, ev *pgwire.Event, out *[]byte) (int, error) {
	if end := ev.Pos + ev.Length; end <= len(data) {
		*out = p.message(*out, ev.Type, data[ev.Pos:end])
		if p.x.waits {
			p.hold(header(nil, ev), data[ev.Pos:])
		} else {
			p.x.checked = nil
		}
		return end, nil
	}
	p.x.partial = header(p.x.partial[:0], ev)
	p.x.need = ev.Length + len(p.x.partial)
	p.x.partial = append(p.x.partial, data[ev.Pos:]...)
	return len(data), p.early(nil, out)
}

// collect adds the beginning of a chunk to the message that is being collected.
func (p *Pooled) collect(data []byte, out *[]byte) (int, error) {
	if p.x.need == 0 {
		n := min(p.x.skip, len(data))
		p.x.skip -= n
		return n, nil
	}
	n := min(p.x.need-len(p.x.partial), len(data))
	p.x.partial = append(p.x.partial, data[:n]...)
	if len(p.x.partial) == p.x.need {
		*out = p.message(*out, p.x.partial[0], p.x.partial[5:])
		if p.x.waits {
			p.hold(p.x.partial, data[n:])
		} else {
			p.x.checked = nil
		}
		p.collected()
		return n, nil
	}
	return n, p.early(data[n:], out)
}

var errTooLong = errors.New("message of a prepared statement is too long")

// early passes on the first part of a message as soon as that can be changed. What
// follows may be long and needs no change; rest is the part of it in this chunk.
func (p *Pooled) early(rest []byte, out *[]byte) error {
	typ, body := p.x.partial[0], p.x.partial[5:]
	length := p.x.need - 5
	switch {
	case typ == 'B':
		i := bytes.IndexByte(body, 0)
		if i < 0 || bytes.IndexByte(body[i+1:], 0) < 0 {
			if len(body) > maxNames {
				return errTooLong
			}
			return nil
		}
		if *out = p.bind(*out, body, length); p.x.waits {
			p.hold(p.x.partial, rest)
		} else {
			p.x.checked = nil
		}
	case length <= maxParse || len(body) == 0:
		return nil
	case typ == 'P' && body[0] == 0:
		p.newUnnamed(nil, traitAll)
		p.effectOfUnnamed(p.unread("a text that is too long to be read"))
		*out = append(binary.BigEndian.AppendUint32(append(*out, typ), uint32(4+length)), body...)
	case typ == 'P':
		*out = p.overLimit(*out)
		p.x.skip = p.x.need - len(p.x.partial)
	default:
		return errTooLong
	}
	p.collected()
	return nil
}

func (p *Pooled) collected() {
	p.x.need = 0
	p.x.partial = p.x.partial[:0]
	if cap(p.x.partial) > 4096 {
		p.x.partial = nil
	}
}

// message appends a complete message, changed as the backend needs it. A malformed
// message is passed on, and the server refuses it.
func (p *Pooled) message(out []byte, typ byte, body []byte) []byte {
	switch {
	case p.x.skipping:
		return pgwire.AppendMessage(out, typ, body)
	case typ == 'P':
		return p.parse(out, body)
	case typ == 'B':
		return p.bind(out, body, len(body))
	case typ == 'D':
		return p.describe(out, body)
	case typ == 'C':
		return p.closeStatement(out, body)
	}
	return p.query(out, body)
}

// query appends a short simple query.
func (p *Pooled) query(out, body []byte) []byte {
	text := queryText(body)
	t := traitsOf(text)
	switch {
	case p.line.keep == nil && t.listens(text):
		return p.refuseListen(out, 'Q')
	case len(p.names) > 0 && t.names(text):
		return p.queryNaming(out, body, text, t)
	}
	p.note('Q', t)
	if p.line.keep != nil {
		p.line.keep.queries(p.x.last(), text)
	}
	return pgwire.AppendMessage(out, 'Q', body)
}

// queryText returns the text before the first zero byte.
func queryText(body []byte) []byte {
	if i := bytes.IndexByte(body, 0); i >= 0 {
		return body[:i]
	}
	return body
}

func (p *Pooled) parse(out, body []byte) []byte {
	name, tail, ok := bytes.Cut(body, []byte{0})
	if !ok {
		p.x.push(owed{kind: 'P'})
		return pgwire.AppendMessage(out, 'P', body)
	}
	text := queryText(tail)
	t := traitsOf(text)
	switch {
	case p.line.keep == nil && t.listens(text):
		return p.refuseListen(out, 'P')
	case len(name) == 0:
		p.newUnnamed(tail, t)
		p.effectOfUnnamed(p.effectOf(text))
		return pgwire.AppendMessage(out, 'P', body)
	}
	if p.names[string(name)] != nil {
		// The name is taken here, so it must be taken on the server, which refuses the Parse.
		out = p.makeEmpty(out, emptyStatement)
		p.x.push(owed{kind: 'P'})
		return appendParse(out, emptyStatement, tail)
	}
	if len(p.names) >= maxNamed || p.text+len(body) > maxNamedText {
		return p.overLimit(out)
	}
	naming := t.names(text)
	st, base := p.shared.statements.prepare(tail, t, p.line.b.Params.settings(), p.x.sets || naming)
	st.naming = naming
	if k := p.line.keep; k != nil {
		st.effect, st.reader = k.reader.Read(text), k.reader
	}
	p.name(string(name), st)
	out, on := p.add(out, st.key)
	on.base = base
	p.x.push(owed{kind: 'P', on: on, name: string(name), stmt: st})
	out = appendParse(out, on.name, tail)
	if naming {
		return out
	}
	return p.ask(out, string(name), st, on)
}

// newUnnamed records a Parse of the unnamed statement. A nil tail means that the
// statement isn't kept.
func (p *Pooled) newUnnamed(tail []byte, t traits) {
	u := &p.unnamed
	*u = unnamed{
		exists: true, here: true, kept: tail != nil, number: u.number + 1,
		tail: append(u.tail[:0], tail...), traits: t,
	}
	p.x.push(owed{kind: 'P', unnamed: u.number})
}

// add records a statement that is about to be parsed on the backend, and closes those
// that have to go for it.
func (p *Pooled) add(out []byte, key statementKey) ([]byte, *onBackend) {
	for _, name := range p.there().lost {
		out = p.forgo(out, name)
	}
	p.there().lost = nil
	on, gone := p.there().add(key, p.x.batch)
	if gone != nil {
		out = p.forgo(out, gone.name)
	}
	return out, on
}

// forgo closes a statement on the backend that is not needed any more.
func (p *Pooled) forgo(out []byte, name string) []byte {
	p.x.push(owed{kind: 'C', fate: swallow, on: &onBackend{name: name}})
	return appendClose(out, name)
}

// prepare makes sure that the backend has a statement as the client knows it. If the
// backend hasn't, prepare adds a Parse, and says with waits that the client's message
// must wait for the server's description. Without waits, nil means that the statement is
// outdated.
func (p *Pooled) prepare(out []byte, st *statement, name []byte) (_ []byte, on *onBackend, waits bool) {
	x := p.x
	for _, c := range x.checked {
		if c.stmt == st {
			return out, c.on, false
		}
	}
	if on = p.there().get(st.key, x.batch); on != nil {
		return out, on, false
	}
	// If the client's own Parse is still unanswered, in an earlier batch, that Parse
	// decides.
	if e := x.pending(string(name), st); e != nil && e.on != nil {
		return out, e.on, false
	}
	now := p.line.b.Params.settings()
	if !st.described.known() { // an error has skipped the Describe
		key := st.key
		if x.sets || now != st.with {
			key = p.shared.statements.ownKey()
		}
		out, on = p.add(out, key)
		x.push(owed{kind: 'P', fate: swallow, on: on})
		return appendParse(out, on.name, []byte(st.tail)), on, false
	}
	base := p.shared.statements.ownKey()
	if !x.sets {
		base = baseOf(st.tail, now)
		if on = p.there().get(keyWith(base, st.described), x.batch); on != nil {
			return out, on, false
		}
	}
	return p.check(out, st, base), nil, true
}

// prepareUnnamed makes sure that the backend has the unnamed statement. It returns the
// name to use: noStatement if the client has no unnamed statement.
func (p *Pooled) prepareUnnamed(out []byte) ([]byte, string) {
	u := &p.unnamed
	if !u.exists {
		return out, noStatement
	}
	if !u.here {
		u.here = true
		p.x.push(owed{kind: 'P', fate: swallow, unnamed: u.number})
		out = appendParse(out, "", u.tail)
	}
	return out, ""
}

func appendParse(out []byte, name string, tail []byte) []byte {
	out = binary.BigEndian.AppendUint32(append(out, 'P'), uint32(4+len(name)+1+len(tail)))
	out = append(append(out, name...), 0)
	return append(out, tail...)
}

// appendNamed appends a Describe or Close of a statement.
func appendNamed(out []byte, typ byte, name string) []byte {
	out = binary.BigEndian.AppendUint32(append(out, typ), uint32(4+1+len(name)+1))
	return append(append(append(out, 'S'), name...), 0)
}

func appendClose(out []byte, name string) []byte { return appendNamed(out, 'C', name) }

// bind appends a Bind. body is the first part of the message, with at least the two
// names; length is the length of the whole.
func (p *Pooled) bind(out, body []byte, length int) []byte {
	portal, rest, _ := bytes.Cut(body, []byte{0})
	name, tail, ok := bytes.Cut(rest, []byte{0})
	if !ok || p.x.skipping {
		if !p.x.skipping {
			p.x.push(owed{kind: 'B'})
		}
		out = binary.BigEndian.AppendUint32(append(out, 'B'), uint32(4+length))
		return append(out, body...)
	}
	out, on, t := p.find(out, name, true)
	switch {
	case p.x.waits:
		return out
	case on.outdated:
		p.x.skip = length - len(body)
		return p.outdated(out)
	}
	p.unnamed.used = p.unnamed.used || len(name) == 0
	if len(portal) == 0 {
		p.portal = t
	} else {
		p.portals |= t
	}
	if p.line.keep != nil {
		p.line.keep.bound(len(portal) > 0, p.effectOn(name))
	}
	p.x.push(owed{kind: 'B', on: on.on, name: on.ended.name, stmt: on.ended.stmt})
	if on.other {
		length += len(on.name) - len(name)
	}
	out = binary.BigEndian.AppendUint32(append(out, 'B'), uint32(4+length))
	out = append(append(out, portal...), 0)
	if on.other {
		out = append(out, on.name...)
	} else {
		out = append(out, name...)
	}
	return append(append(out, 0), tail...)
}

// found is the statement on the backend that a client's name means.
type found struct {
	on    *onBackend // nil if the name isn't of a statement that the relay manages
	other bool       // its name on the backend isn't the client's name
	name  string
	// outdated: its result isn't what the client knows.
	outdated bool
	// ended is the client's statement that it deallocates.
	ended ended
}

// find makes sure that the backend has the statement of a name. If the client's message
// must wait for that, p.x.waits is set. binds:
// the message is a Bind.
func (p *Pooled) find(out, name []byte, binds bool) ([]byte, found, traits) {
	if st := p.names[string(name)]; st != nil {
		if st.naming {
			return p.findNaming(out, st, binds)
		}
		out, on, waits := p.prepare(out, st, name)
		if waits || on == nil {
			return out, found{outdated: !waits}, 0
		}
		return out, found{on: on, other: true, name: on.name}, st.traits
	}
	if len(name) == 0 {
		if u := &p.unnamed; u.exists && u.kept && u.traits.names(queryText(u.tail)) {
			return p.findNaming(out, nil, binds)
		}
		out, other := p.prepareUnnamed(out)
		return out, found{other: other != "", name: other}, p.unnamed.traits
	}
	return out, found{}, traitAll &^ traitControl // made by PREPARE, or unknown
}

func (p *Pooled) describe(out, body []byte) []byte {
	name, ok := statementName(body)
	if !ok {
		p.x.push(owed{kind: 'D'})
		return pgwire.AppendMessage(out, 'D', body)
	}
	out, on, _ := p.find(out, name, false)
	switch {
	case p.x.waits:
		return out
	case on.outdated:
		return p.outdated(out)
	}
	p.x.push(owed{kind: 'D', on: on.on})
	if on.other {
		return appendNamed(out, 'D', on.name)
	}
	return pgwire.AppendMessage(out, 'D', body)
}

// closeStatement handles a Close. A named statement stays on the backend, for clients
// that have the same.
func (p *Pooled) closeStatement(out, body []byte) []byte {
	if name, ok := statementName(body); ok {
		if st := p.names[string(name)]; st != nil {
			p.unname(string(name), st)
			p.x.push(owed{kind: 'C', fate: invent, name: string(name), stmt: st})
			return out
		}
		if len(name) == 0 {
			p.unnamed.exists = false
		}
	}
	p.x.push(owed{kind: 'C'})
	return pgwire.AppendMessage(out, 'C', body)
}

// statementName returns the name in a Describe or Close of a statement.
func statementName(body []byte) ([]byte, bool) {
	if len(body) < 2 || body[0] != 'S' || bytes.IndexByte(body, 0) != len(body)-1 {
		return nil, false
	}
	return body[1 : len(body)-1], true
}
