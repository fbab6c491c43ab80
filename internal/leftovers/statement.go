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
	case "select", "values", "table", "with", "insert", "update", "delete":
		x.body(body{})
	case "merge":
		x.body(body{merge: true})
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

// control reads a statement that concerns transactions, and prepared statements whose name
// begins with the same word.
func (x *reading) control(first []byte) bool {
	switch string(first) {
	case "begin", "start":
		x.skip()
	case "commit", "end":
		x.advance()
		x.ends(Commit)
	case "rollback", "abort":
		x.advance()
		x.ends(Rollback)
	case "savepoint":
		x.advance()
		x.named(Savepoint)
	case "release":
		x.advance()
		x.skipWord("savepoint")
		x.named(Release)
	case "prepare":
		if string(x.lower(x.peek())) != "transaction" || x.isPrepare() {
			return false
		}
		x.skip()
		x.change(Change{Kind: Commit}) // settings go on
	case "deallocate":
		x.advance()
		x.skipWord("prepare")
		if x.isWord("all") {
			x.advance()
			x.change(Change{Kind: Deallocate})
			return true
		}
		x.named(Deallocate)
	case "discard":
		x.advance()
		x.discard()
	default:
		return false
	}
	return true
}

// isPrepare reports whether PREPARE TRANSACTION makes a prepared statement of that name.
func (x *reading) isPrepare() bool {
	s := x.s
	s.next()
	return s.next().kind != text
}

// skipWord skips a word that may stand before a name, unless it is the name.
func (x *reading) skipWord(w string) {
	if look := x.peek(); x.isWord(w) && (look.kind == word || look.kind == quoted) {
		x.advance()
	}
}

// ends reads the rest of COMMIT or ROLLBACK.
func (x *reading) ends(k Kind) {
	x.accept("work", "transaction")
	switch {
	case x.accept("prepared"): // a transaction of another session
		x.skip()
	case x.accept("to"):
		x.skipWord("savepoint")
		x.named(RollbackTo)
	default:
		x.skip()
		x.change(Change{Kind: k})
	}
}

// named reads the name at the end of a statement.
func (x *reading) named(k Kind) {
	if x.t.kind != word && x.t.kind != quoted {
		x.mark(unreadable)
		x.skip()
		return
	}
	name := string(identifier(x.s.text, x.t))
	x.advance()
	if !x.atEnd() {
		x.mark(unreadable)
		x.skip()
	}
	x.change(Change{Kind: k, Name: name})
}

// discard reads the rest of DISCARD. Plans and what currval remembers are nothing that is
// known, and there are no temporary tables in a session without a mark.
func (x *reading) discard() {
	switch {
	case x.accept("all"):
		x.change(Change{Kind: DiscardAll})
	case x.accept("plans", "sequences", "temp", "temporary"):
	default:
		x.mark(unreadable)
	}
	x.skip()
}
