package leftovers

import (
	"bytes"
	"strings"
)

// statement reads one statement and stops at its end.
func (x *reading) statement() {
	if x.t.is('(') {
		x.body(body{})
		return
	}
	first := x.lower(x.t)
	switch string(first) {
	case "select", "values", "table", "with", "update", "delete":
		x.body(body{})
	case "insert":
		x.body(body{inserts: true})
	case "merge":
		x.body(body{merge: true, inserts: true})
	case "declare":
		x.body(body{declare: true})
	case "copy":
		x.advance()
		x.body(body{copies: true, before: wTable})
	case "explain":
		x.explain()
	case "create":
		x.create()
	case "alter":
		x.alter()
	case "show", "fetch", "move", "close", "notify", "unlisten", "lock", "truncate", "vacuum", "analyze", "analyse", "cluster",
		"reindex", "checkpoint", "refresh", "grant", "revoke", "comment", "drop", "security":
		x.skip()
	default:
		if !x.control(first) && !x.setting(first) {
			x.unknown("")
		}
	}
}

// unknown marks the session with the first word of the statement.
func (x *reading) unknown(before string) {
	name := x.lower(x.t)
	if len(name) == 0 || bytes.IndexFunc(name, func(c rune) bool { return c >= 0x80 }) >= 0 {
		x.mark(unreadable)
	} else {
		x.markLasting(before+strings.ToUpper(string(name)), string(name) == "load")
	}
	x.body(body{}) // for what lasts
}

func (x *reading) markLasting(why string, lasts bool) {
	if lasts && !x.left.Mark.Lasts {
		x.left.Mark = Mark{why, true}
	}
	x.mark(why)
}

// explain reads the statement that is explained. To plan it, the server may call its
// functions, even without ANALYZE.
func (x *reading) explain() {
	x.advance()
	for x.accept("analyze", "analyse", "verbose") {
	}
	if x.t.is('(') {
		if look := x.peek(); string(x.lower(look)) == "select" || string(x.lower(look)) == "values" ||
			string(x.lower(look)) == "table" || string(x.lower(look)) == "with" || look.is('(') {
			x.body(body{})
			return
		}
		for !x.atEnd() && !x.t.is(')') {
			x.advance()
		}
		if x.atEnd() {
			x.mark(unreadable)
			return
		}
		x.advance()
	}
	switch string(x.lower(x.t)) {
	case "select", "values", "table", "with", "insert", "update", "delete", "merge", "declare", "create", "refresh", "":
		x.statement()
	default:
		x.unknown("EXPLAIN ")
	}
}

// peek returns the token after the next one.
func (x *reading) peek() token {
	s := x.s
	return s.next()
}

// create reads a CREATE of something that isn't temporary and runs no text.
func (x *reading) create() {
	x.advance()
	if x.accept("or") {
		x.accept("replace")
	}
	switch string(x.lower(x.t)) {
	case "temp", "temporary", "local", "global":
		x.mark("CREATE TEMP")
		x.body(body{ddl: true})
	case "index", "unique":
		x.body(body{ddl: true, index: true})
	case "table", "unlogged", "view", "materialized", "recursive", "sequence", "schema", "domain", "type", "role", "user", "statistics":
		x.body(body{ddl: true})
	default:
		x.unknown("CREATE ")
	}
}

func (x *reading) alter() {
	x.advance()
	if x.isWord("extension") {
		x.unknown("ALTER ")
		return
	}
	x.body(body{ddl: true})
}

// control reads a statement that concerns transactions, prepared statements or all of the
// session, and leaves nothing.
func (x *reading) control(first []byte) bool {
	switch string(first) {
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "deallocate":
	case "prepare":
		if string(x.lower(x.peek())) != "transaction" || x.isPrepare() {
			return false
		}
	case "discard":
		// Plans and what currval remembers are nothing that is known, and there are no
		// temporary tables in a session without a mark.
	default:
		return false
	}
	x.skip()
	return true
}

// isPrepare reports whether PREPARE TRANSACTION makes a prepared statement of that name.
func (x *reading) isPrepare() bool {
	s := x.s
	s.next()
	return s.next().kind != text
}
