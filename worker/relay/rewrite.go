package relay

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// The flow of bytes in the transaction pipeline, where a statement that a client
// prepared must be found on whatever backend it gets:
//
//  1. awaken throws away what a client without a backend says for nothing, and
//     answers what has failed with a backend that was lost (lost.go).
//  2. clientBytes copies a chunk from the client to out. Messages that name a
//     prepared statement get the name it has on this backend, behind a Parse of
//     ours if it isn't there yet (prepare). A Parse of something that the backend
//     has already isn't sent at all.
//  3. Each message that will be answered is noted in the backend's exchange.
//  4. serverBytes (answers.go) copies a chunk from the server to out, without the
//     answers to messages of ours, and with those to messages that weren't sent.
//  5. When nothing is owed, the session gives the backend back.
//
// A header that a chunk ends in is held back if its message may have to be
// changed; all other bytes are passed on as they come, so a message of any size
// costs no memory. Messages that are changed are collected: a Parse as a whole, a
// Bind up to its names.

const (
	// maxParse is the largest Parse message that is collected, in bytes. A larger
	// one of a named statement is an error; an unnamed one is passed on as it comes
	// and ends with its transaction.
	maxParse = 16 << 20
	// maxUnnamed is the longest unnamed statement that is kept after it was used,
	// in bytes.
	maxUnnamed = 64 << 10
	// maxNames is how long the two names in a Bind may be together, in bytes.
	maxNames = 64 << 10
	// maxCollect is the longest Query that is put together if it comes in pieces,
	// in bytes, so that its text can be read.
	maxCollect = 256 << 10
	// maxDeallocate is the longest DEALLOCATE that is understood, in bytes.
	maxDeallocate = 256
	// noStatement is the name of a statement that doesn't exist. The server has the
	// right error for those who use it.
	noStatement = "pgagroal_none"
	// emptyStatement stands for a client's statement that others may still use, for
	// a client that deallocates it or prepares another one of the same name.
	emptyStatement = "pgagroal_empty"
)

var pooledClient, pooledServer = pooledInterests()

func pooledInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X', 'c', 'f')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S', 'C')
	server.Set(pgwire.AtHeader, 'G', 'W', '1', '3')
	server.Set(pgwire.AtEnd, '2', 'n', 'T', 's', 'I')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// holdBack returns how many bytes at the end of a chunk are kept for later: the
// beginning of a header. The scanner keeps them; header gives them back.
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

// clientBytes appends to out what the server is to get of data.
func (p *Pooled) clientBytes(data, out []byte) (_ []byte, leaving bool, err error) {
	from, err := p.collect(data, &out)
	if err != nil {
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
			if from, err = p.change(data, &ev, &out); err != nil {
				return out, false, err
			}
		case ev.Type == 'S' && p.x.copying:
			from = ev.Pos // the server would ignore it, unless its COPY has just failed
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

// collects reports whether a message is looked at as a whole.
func (p *Pooled) collects(ev *pgwire.Event) bool {
	switch ev.Type {
	case 'Q':
		return ev.Length <= maxCollect && !p.x.skipping
	case 'P', 'B', 'D', 'C':
		return !p.x.skipping
	}
	return false
}

// note takes note of a message that is passed on as it is.
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
	case 'E':
		p.line.totals.Queries++
		t &= p.portal | p.portals
		x.sets = x.sets || t&traitSets != 0
		x.push(owed{kind: 'E', traits: t})
	case 'F', 'S', 'P', 'B', 'D', 'C':
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
		return end, nil
	}
	p.x.partial = header(p.x.partial[:0], ev)
	p.x.need = ev.Length + len(p.x.partial)
	p.x.partial = append(p.x.partial, data[ev.Pos:]...)
	return len(data), p.early(out)
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
		p.collected()
		return n, nil
	}
	return n, p.early(out)
}

var errTooLong = errors.New("message of a prepared statement is too long")

// early passes a message on as soon as it is known how; what follows may be
// long, and needs no change.
func (p *Pooled) early(out *[]byte) error {
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
		*out = p.bind(*out, body, length)
	case length <= maxParse || len(body) == 0:
		return nil
	case typ == 'P' && body[0] == 0:
		p.newUnnamed(nil, traitAll)
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

// message appends a complete message, changed as the backend needs it. One that
// is malformed is left to the server to refuse.
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

// query passes a short simple query on.
func (p *Pooled) query(out, body []byte) []byte {
	text := queryText(body)
	out, name, st := p.deallocate(out, text)
	if st != nil {
		body = []byte("DEALLOCATE " + emptyStatement + "\x00")
	}
	p.note('Q', traitsOf(text))
	e := p.x.last()
	e.name, e.stmt = name, st
	return pgwire.AppendMessage(out, 'Q', body)
}

// deallocate returns the statement of the client's that a text deallocates, nil
// for none. It goes here, and an empty statement is made to go on the server: that
// works in whatever state the transaction is, and has the answers that the client
// expects.
func (p *Pooled) deallocate(out, text []byte) ([]byte, string, *statement) {
	if len(text) == 0 || len(text) > maxDeallocate || len(p.names) == 0 {
		return out, "", nil
	}
	var buf [64]byte
	name := string(deallocated(text, buf[:]))
	st := p.names[name]
	if st == nil {
		return out, "", nil
	}
	p.unname(name, st)
	return p.makeEmpty(out), name, st
}

// makeEmpty makes the empty statement; that works in a failed transaction, too.
func (p *Pooled) makeEmpty(out []byte) []byte {
	out = p.forgo(out, emptyStatement)
	p.x.push(owed{kind: 'P', fate: swallow})
	return appendParse(out, emptyStatement, []byte{0, 0, 0})
}

// queryText returns what is before the first zero byte.
func queryText(body []byte) []byte {
	if i := bytes.IndexByte(body, 0); i >= 0 {
		return body[:i]
	}
	return body
}

func (p *Pooled) parse(out, body []byte) []byte {
	name, tail, ok := bytes.Cut(body, []byte{0})
	switch {
	case !ok:
		p.x.push(owed{kind: 'P'})
		return pgwire.AppendMessage(out, 'P', body)
	case len(name) == 0:
		return p.parseUnnamed(out, tail)
	}
	if p.names[string(name)] != nil {
		// The server refuses it: the name is taken, there as well.
		out = p.makeEmpty(out)
		p.x.push(owed{kind: 'P'})
		return appendParse(out, emptyStatement, tail)
	}
	if len(p.names) >= maxNamed || p.text+len(body) > maxNamedText {
		return p.overLimit(out)
	}
	st := p.shared.statements.hold(tail, p.line.b.Params.settings(), p.x.sets)
	p.name(string(name), st)
	e := owed{kind: 'P', fate: invent, name: string(name), stmt: st}
	if p.there.get(st.key, p.x.batch) == nil || p.line.b.Status == pgwire.TxFailed || p.x.ends() {
		// In a failed transaction the server refuses it, and so it must come to it.
		e.fate = pass
		out, e.on = p.add(out, st.key)
		out = appendParse(out, e.on.name, tail)
	}
	p.x.push(e)
	return out
}

func (p *Pooled) parseUnnamed(out, tail []byte) []byte {
	text := queryText(tail)
	out, name, st := p.deallocate(out, text)
	if st != nil {
		tail = []byte("DEALLOCATE " + emptyStatement + "\x00\x00\x00")
	}
	p.newUnnamed(tail, traitsOf(text))
	e := p.x.last()
	e.name, e.stmt = name, st
	return appendParse(out, "", tail)
}

// newUnnamed notes a Parse of an unnamed statement; a nil tail is one that isn't
// kept.
func (p *Pooled) newUnnamed(tail []byte, t traits) {
	u := &p.unnamed
	*u = unnamed{
		exists: true, here: true, kept: tail != nil, number: u.number + 1,
		tail: append(u.tail[:0], tail...), traits: t,
	}
	p.x.push(owed{kind: 'P', unnamed: u.number})
}

// add makes room for a statement on the backend.
func (p *Pooled) add(out []byte, key statementKey) ([]byte, *onBackend) {
	for _, name := range p.there.lost {
		out = p.forgo(out, name)
	}
	p.there.lost = nil
	on, gone := p.there.add(key, p.x.batch)
	if gone != nil {
		out = p.forgo(out, gone.name)
	}
	return out, on
}

// forgo closes a statement that we need no more.
func (p *Pooled) forgo(out []byte, name string) []byte {
	p.x.push(owed{kind: 'C', fate: swallow, on: &onBackend{name: name}})
	return appendClose(out, name)
}

// prepare has a statement on the backend, by a Parse of ours if need be. That is
// parsed with the settings of now, so others find it under these. If the client's
// own Parse is under way in another batch, all depends on that one.
func (p *Pooled) prepare(out []byte, st *statement, name []byte) ([]byte, *onBackend) {
	on := p.there.get(st.key, p.x.batch)
	if on != nil {
		return out, on
	}
	if e := p.x.pending(string(name), st); e != nil && e.on != nil {
		return out, e.on
	}
	key := st.key
	if now := p.line.b.Params.settings(); p.x.sets {
		key = p.shared.statements.ownKey()
	} else if now != st.with {
		key = p.shared.statements.keyOf(st.tail, now)
		if on = p.there.get(key, p.x.batch); on != nil {
			return out, on
		}
	}
	out, on = p.add(out, key)
	p.x.push(owed{kind: 'P', fate: swallow, on: on})
	return appendParse(out, on.name, []byte(st.tail)), on
}

// prepareUnnamed has the unnamed statement on the backend, and returns the name
// that finds it, or the error that there is none.
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

// bind appends a Bind of which body is the beginning, at least the names, and
// length the length of the whole.
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
	out, on, t := p.find(out, name)
	p.unnamed.used = p.unnamed.used || len(name) == 0
	if len(portal) == 0 {
		p.portal = t
	} else {
		p.portals |= t
	}
	p.x.push(owed{kind: 'B', on: on.on})
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

// found is what a name of the client's means on the backend.
type found struct {
	on    *onBackend // nil for what isn't a named statement of ours
	other bool       // the name there is another one
	name  string
}

// find has the statement of a name on the backend.
func (p *Pooled) find(out, name []byte) ([]byte, found, traits) {
	if st := p.names[string(name)]; st != nil {
		out, on := p.prepare(out, st, name)
		return out, found{on: on, other: true, name: on.name}, st.traits
	}
	if len(name) == 0 {
		out, other := p.prepareUnnamed(out)
		return out, found{other: other != "", name: other}, p.unnamed.traits
	}
	return out, found{}, traitAll &^ traitControl // made by a PREPARE, or unknown
}

func (p *Pooled) describe(out, body []byte) []byte {
	name, ok := statementName(body)
	if !ok {
		p.x.push(owed{kind: 'D'})
		return pgwire.AppendMessage(out, 'D', body)
	}
	out, on, _ := p.find(out, name)
	p.x.push(owed{kind: 'D', on: on.on})
	if on.other {
		return appendNamed(out, 'D', on.name)
	}
	return pgwire.AppendMessage(out, 'D', body)
}

// closeStatement: the statement stays on the backend for those who have the same.
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
