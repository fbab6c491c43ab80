package relay

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// SQL names prepared statements, too: EXECUTE, EXPLAIN EXECUTE and DEALLOCATE. A client
// uses its own names, and the backend has others:
//
//  1. The traits of a text tell whether it may name statements; mentionsIn finds the
//     names.
//  2. resolve makes sure that the backend has the statements that the text executes,
//     as prepare does for a Bind, and puts their names on this backend into the text. A
//     Query waits for the server's description like any other message. If the server
//     refuses the statement, the client gets that error, and a Sync is sent in place of
//     the Query (refused).
//  3. DEALLOCATE ends the client's name here. Other clients may still use the statement,
//     so the server deallocates an empty one: its answer is right whatever the state of
//     the transaction.
//  4. A prepared statement whose text names others has another text on each backend, so
//     it isn't shared. Its Parse is sent as it is; each Bind and Describe resolves the
//     text again.

// names reports whether a text with these traits names a prepared statement.
func (t traits) names(text []byte) bool {
	return t&traitNames != 0 && len(mentionsIn(text)) > 0 // usually without a look at the text
}

// mention is the name of a prepared statement in a text.
type mention struct {
	from, to int // in the text
	name     string
	ends     bool   // by DEALLOCATE
	late     bool   // an earlier statement of the text ends a transaction
	as       string // what takes its place, empty for nothing
}

// mentionsIn returns the names in a text of one or more statements.
func mentionsIn(text []byte) (all []mention) {
	late := false
	for at := 0; at < len(text); {
		one := text[at:]
		if m, ok := mentioned(one); ok {
			m.from, m.to, m.late = m.from+at, m.to+at, late
			all = append(all, m)
		}
		if bytes.IndexByte(one, ';') < 0 {
			break
		}
		end, ok := statementEnd(one)
		if !ok {
			break
		}
		late = late || controlOf(nextWord(one[:end]))&(traitCloses|traitCommits) != 0
		at += end + 1
	}
	return all
}

// mentioned returns the name in the first statement of a text.
func mentioned(text []byte) (m mention, ok bool) {
	word, rest := nextWord(text)
	switch {
	case bytes.EqualFold(word, []byte("execute")):
	case bytes.EqualFold(word, []byte("explain")):
		if rest = afterExplain(rest); rest == nil {
			return m, false
		}
	case bytes.EqualFold(word, []byte("deallocate")):
		m.ends = true
		rest = afterDeallocate(rest)
	default:
		return m, false
	}
	var buf [64]byte
	name, tail := identifier(rest, buf[:])
	m.name, m.from, m.to = string(name), len(text)-len(skipBlank(rest)), len(text)-len(tail)
	switch {
	case len(name) == 0, m.ends && m.name == "all" && text[m.from] != '"':
		return m, false
	case len(tail) > 0 && (tail[0] == '$' || tail[0] == '&' || tail[0] >= 0x80):
		return m, false // a longer name, or a Unicode escape: not worth it
	}
	return m, true
}

// afterDeallocate skips the word PREPARE, unless that is the name.
func afterDeallocate(text []byte) []byte {
	word, rest := nextWord(text)
	if next := skipBlank(rest); bytes.EqualFold(word, []byte("prepare")) && len(next) > 0 && next[0] != ';' {
		return rest
	}
	return text
}

// afterExplain returns what comes after EXECUTE in an EXPLAIN, nil if that explains
// something else.
func afterExplain(text []byte) []byte {
	text = bytes.TrimLeft(text, " \t\r\n\f\v")
	if len(text) > 0 && text[0] == '(' {
		text = text[bytes.IndexByte(text, ')')+1:]
	}
	for {
		word, rest := nextWord(text)
		switch {
		case bytes.EqualFold(word, []byte("execute")):
			return rest
		case bytes.EqualFold(word, []byte("analyze")), bytes.EqualFold(word, []byte("analyse")), bytes.EqualFold(word, []byte("verbose")):
			text = rest
		default:
			return nil
		}
	}
}

// ended is a client's statement whose name a DEALLOCATE ends. stmt is nil if the relay
// doesn't manage the statement.
type ended struct {
	name string
	stmt *statement
}

// endings are the DEALLOCATEs of a Query. said is how many of them the server has
// confirmed.
type endings struct {
	all  []ended
	said int
}

// resolved is a text with the names that statements have on the current backend.
type resolved struct {
	text    []byte
	changed bool
	traits  traits     // of the statements that the text executes
	on      *onBackend // the last of these, nil for none
	ended   []ended
}

// resolve puts the names on the backend into a text. If the client's message must wait,
// p.x.waits is set. ends says whether DEALLOCATE ends names; kind is the type of the
// message.
func (p *Pooled) resolve(out, text []byte, kind byte, ends bool) ([]byte, resolved) {
	r := resolved{text: text}
	all := mentionsIn(text)
	for i := range all {
		m := &all[i]
		st := p.names[m.name]
		if st == nil || m.ends || st.naming || isEnded(all[:i], m.name) {
			continue
		}
		var on *onBackend
		if kind != 'Q' || !m.late && p.canPrepare(st) {
			if out, on, _ = p.prepare(out, st, []byte(m.name)); p.x.waits {
				return out, r
			}
			if on == nil { // the server's error will be replaced
				m.as, r.traits = noStatement, r.traits|traitOutdated
			}
		} else {
			on = p.there().get(st.key, p.x.batch)
		}
		if on != nil {
			m.as, r.on, r.traits = on.name, on, r.traits|st.traits
		}
	}
	if ends {
		out = p.endNames(out, all, &r)
	}
	r.text, r.changed = substitute(text, all)
	return out, r
}

// isEnded reports whether one of these mentions ends a name.
func isEnded(all []mention, name string) bool {
	for _, m := range all {
		if m.ends && m.name == name {
			return true
		}
	}
	return false
}

// canPrepare reports whether a statement that a Query names can be prepared before the
// Query. If that fails, the server skips everything up to a Sync, and the Query doesn't
// run: so nothing else may wait for its Sync.
func (p *Pooled) canPrepare(st *statement) bool {
	ours := len(p.x.checked) > 0 // only checks for this Query are without a Sync
	return st.described.known() && (ours || !p.x.unsynced)
}

// endNames ends the client's names that a text deallocates.
func (p *Pooled) endNames(out []byte, all []mention, r *resolved) []byte {
	empties := 0
	for i := range all {
		m := &all[i]
		if !m.ends {
			continue
		}
		st := p.names[m.name]
		if st != nil {
			p.unname(m.name, st)
			m.as = emptyName(empties)
			out = p.makeEmpty(out, m.as)
			empties++
		}
		r.ended = append(r.ended, ended{m.name, st})
	}
	return out
}

// substitute returns the text with what takes the place of names.
func substitute(text []byte, all []mention) (_ []byte, changed bool) {
	var b []byte
	from := 0
	for _, m := range all {
		if m.as != "" {
			b = append(append(b, text[from:m.from]...), m.as...)
			from, changed = m.to, true
		}
	}
	if !changed {
		return text, false
	}
	return append(b, text[from:]...), true
}

// emptyName is the name of the n-th statement without text, from 0.
func emptyName(n int) string {
	if n == 0 {
		return emptyStatement
	}
	return emptyStatement + strconv.Itoa(n)
}

// makeEmpty makes a statement without text on the server, which works in a failed
// transaction, too.
func (p *Pooled) makeEmpty(out []byte, name string) []byte {
	there := p.there()
	there.lost = slices.DeleteFunc(there.lost, func(lost string) bool { return lost == name }) // closed now, not later
	out = p.forgo(out, name)
	p.x.push(owed{kind: 'P', fate: swallow})
	return appendParse(out, name, []byte{0, 0, 0})
}

// queryNaming appends a Query whose text may name prepared statements.
func (p *Pooled) queryNaming(out, body, text []byte, t traits) []byte {
	out, r := p.resolve(out, text, 'Q', true)
	switch {
	case p.x.waits:
		return out
	case r.changed:
		body = append(r.text, 0)
	}
	p.note('Q', t|r.traits)
	e := p.x.last()
	e.on = r.on
	if p.line.keep != nil {
		p.line.keep.queries(e, text)
	}
	if r.ended != nil {
		e.endings = &endings{all: r.ended}
	}
	return pgwire.AppendMessage(out, 'Q', body)
}

// refused handles a Query that waited for a statement that the server refused. The client
// has been told. The server skips to a Sync, and the answer to that ends the Query.
// refused returns what the client has said after the Query.
func (p *Pooled) refused(out, held []byte) (_, rest []byte) {
	n := 1 + int(binary.BigEndian.Uint32(held[1:]))
	p.x.skipping = false
	p.x.checked = nil
	p.note('Q', 0)
	p.line.totals.Sent += uint64(n)
	return append(out, 'S', 0, 0, 0, 4), held[n:]
}

// unwait takes back the check that a Query waits for on a backend that is lost. Nothing
// of the Query has run, so it can wait for another backend.
func (p *Pooled) unwait() {
	x := p.x
	for x.len() > 0 {
		switch e := x.last(); e.kind {
		case 'Q', 'S', 'F':
			x.unsynced = false
			return
		default:
			p.undo(e)
			x.q = x.q[:len(x.q)-1]
		}
	}
	x.unsynced = false
}

// findNaming makes sure that the backend has a prepared statement whose text names
// others, with the names of this moment. st is nil for the unnamed statement. binds: a
// Bind is to use it.
func (p *Pooled) findNaming(out []byte, st *statement, binds bool) ([]byte, found, traits) {
	u := &p.unnamed
	tail, t := u.tail, u.traits
	if st != nil {
		tail, t = []byte(st.tail), st.traits
	}
	text := queryText(tail)
	out, r := p.resolve(out, text, 'B', binds)
	if p.x.waits {
		return out, found{}, 0
	}
	f := found{other: st != nil}
	if len(r.ended) > 0 {
		f.ended = r.ended[0]
	}
	tail = append(bytes.Clone(r.text), tail[len(text):]...)
	t |= r.traits
	if st == nil {
		u.here = true
		p.x.push(owed{kind: 'P', fate: swallow, unnamed: u.number})
		return appendParse(out, "", tail), f, t
	}
	key := hashed(append(st.key[:len(st.key):len(st.key)], r.text...))
	if f.on = p.there().get(key, p.x.batch); f.on == nil {
		out, f.on = p.add(out, key)
		p.x.push(owed{kind: 'P', fate: swallow, on: f.on})
		out = appendParse(out, f.on.name, tail)
	}
	f.name = f.on.name
	return out, f, t
}

// ended lets go of the statements whose names the DEALLOCATEs of a Query have ended. undo:
// the client keeps those that the server hasn't confirmed.
func (p *Pooled) ended(e *owed, undo bool) {
	if e.endings == nil {
		return
	}
	empties := 0
	for i, gone := range e.endings.all {
		if gone.stmt == nil {
			continue
		}
		if undo && i >= e.endings.said {
			p.rename(gone.name, gone.stmt)
			p.there().lost = append(p.there().lost, emptyName(empties))
		} else {
			p.shared.statements.drop(gone.stmt)
		}
		empties++
	}
}

// confirm counts a DEALLOCATE of a Query that the server has run.
func (e *owed) confirm() {
	if e.endings != nil {
		e.endings.said++
	}
}
