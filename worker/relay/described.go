package relay

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// A prepared statement keeps the parameter types of the schema that it was parsed
// under, and fails when its result changes. So each Parse of a client is sent, under a
// name of its own, and what the server says about the new statement decides whether it
// is the one that others have:
//
//  1. ask sends a Describe after the Parse. answers.go collects the server's description
//     instead of passing it on (description, swallow).
//  2. If the client has prepared the statement itself, settle makes the description a
//     part of the statement's identity. Two statements are the same only if their texts,
//     settings and descriptions are.
//  3. If the backend lacks a statement that a client uses (check), it is parsed with the
//     parameter types that the client knows. The client's bytes are held until the
//     server has described it. If the result isn't what the client knows, the client
//     gets the error that PostgreSQL has for it.
//
// The backend keeps the older of two statements that are the same, because the server
// may have a plan for it, and closes the other before its next Parse.

// maxDescription is the longest description, in bytes, that is collected. A statement
// whose description is longer isn't shared.
const maxDescription = 1 << 20

// description is what a server says about a statement.
type description struct {
	// params are its parameter types, as in ParameterDescription and in Parse.
	params string
	// hash is of the parameter types and of the result's names and types. Zero means
	// that the server hasn't described the statement.
	hash statementKey
}

func (d *description) known() bool { return d.hash != statementKey{} }

// describe reads the bodies of a ParameterDescription and of a RowDescription. rows is
// nil for a statement without a result.
func describe(params, rows []byte) description {
	b := append(bytes.Clone(params), 0)
	if rows != nil {
		b = appendColumns(append(b, 'T'), rows)
	}
	return description{params: string(params), hash: hashed(b)}
}

// appendColumns appends what PostgreSQL compares when it decides whether a result has
// changed: names, types and type modifiers. A table that was dropped and created again
// has another OID, but its columns are the same.
func appendColumns(dst, rows []byte) []byte {
	const fixed = 18 // table 4, column 2, type 4, size 2, modifier 4, format 2
	whole := rows
	if len(rows) < 2 {
		return append(dst, whole...)
	}
	for rows = rows[2:]; len(rows) > 0; {
		n := bytes.IndexByte(rows, 0) + 1
		if n == 0 || len(rows) < n+fixed {
			return append(dst, whole...)
		}
		dst = append(dst, rows[:n]...)
		dst = append(dst, rows[n+6:n+10]...)
		dst = append(dst, rows[n+12:n+16]...)
		rows = rows[n+fixed:]
	}
	return dst
}

// ask sends a Describe for a statement whose Parse was just sent.
func (p *Pooled) ask(out []byte, name string, st *statement, on *onBackend) []byte {
	p.x.push(owed{kind: 'D', fate: swallow, name: name, on: on, asks: st})
	return appendNamed(out, 'D', on.name)
}

// check parses a statement that the backend lacks, as the client knows it. The client's
// message must wait for the server's description.
func (p *Pooled) check(out []byte, st *statement, base statementKey) []byte {
	out, on := p.add(out, p.shared.statements.ownKey())
	on.base = base
	p.x.push(owed{kind: 'P', fate: swallow, on: on})
	out = appendParse(out, on.name, append([]byte(st.query()), st.described.params...))
	out = p.ask(out, "", st, on)
	p.x.waits = true
	return append(out, 'H', 0, 0, 0, 4)
}

// hold keeps the client's bytes, from the beginning of the message that must wait.
func (p *Pooled) hold(begun, rest []byte) {
	p.x.held = append(bytes.Clone(begun), rest...)
	p.line.up = pgwire.NewScanner(pooledClient)
}

// resume goes on with the bytes that were held, if they need not wait any more. What
// goes to the server is appended to out.
func (p *Pooled) resume(out []byte) (_ []byte, leaving bool, err error) {
	if p.x.held == nil || p.x.waits {
		return out, false, nil
	}
	held := p.x.held
	p.x.held = nil
	if p.x.skipping && held[0] == 'Q' {
		out, held = p.refused(out, held)
	}
	return p.clientBytes(held, out)
}

// swallow takes a part of the server's answer to a Describe of the relay.
func (p *Pooled) swallow(part []byte) {
	if len(p.x.said)+len(part) <= maxDescription {
		p.x.said = append(p.x.said, part...)
	} else {
		p.x.tooLong = true
	}
}

// swallowed handles the end of a message of that answer.
func (p *Pooled) swallowed(typ byte) {
	x := p.x
	x.sinks = false
	if typ == 't' {
		x.params = len(x.said)
		return
	}
	var d description
	if !x.tooLong {
		var rows []byte
		if typ == 'T' {
			rows = x.said[x.params:]
		}
		d = describe(x.said[:x.params], rows)
	}
	p.describedAs(x.first(), d)
	x.unsay()
	x.pop()
}

// unsay forgets the description so far.
func (x *exchange) unsay() {
	x.said, x.params, x.sinks, x.tooLong = x.said[:0], 0, false, false
	if cap(x.said) > 4096 {
		x.said = nil
	}
}

// describedAs takes the description that the server gives of a statement.
func (p *Pooled) describedAs(e *owed, d description) {
	st, on, key := e.asks, e.on, keyWith(e.on.base, d)
	switch {
	case st.described.known(): // a check
		p.x.waits = false
		if on = p.there().refile(on, key); d.hash != st.described.hash {
			on = nil
		}
		p.x.checked = append(p.x.checked, checked{st, on})
	case d.known():
		p.settle(e.name, st, d, key)
		p.there().refile(on, key)
	}
}

// settle gives a statement that a client has just prepared its identity. From then on
// it is shared.
func (p *Pooled) settle(name string, st *statement, d description, key statementKey) {
	shared := p.shared.statements.share(st, d, key)
	if shared != st && p.names[name] == st {
		p.names[name] = shared
	}
}

// outdated has the server refuse a message of the client: the statement that it names
// has another result than the client knows.
func (p *Pooled) outdated(out []byte) []byte {
	p.x.push(owed{kind: 'P', fate: outdated})
	return appendParse(out, noStatement, []byte("pgagroal: the result of a prepared statement has changed\x00\x00\x00"))
}

// appendOutdated appends PostgreSQL's error for such a statement. Drivers know it by
// its code, message or routine, and prepare the statement again.
func appendOutdated(out []byte) []byte {
	return pgwire.RefusalOutdated.With().Append(out)
}
