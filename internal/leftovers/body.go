package leftovers

import "bytes"

// Which names in a statement are functions? A name that stands before a parenthesis,
// except
//
//  1. a reserved word;
//  2. a name behind an operand, because there a function can't stand: it is an infix
//     operator, or an alias with its columns. DISTINCT ON (...) and OPERATOR(...) are no
//     operands;
//  3. a name behind AS, INTO, TABLE or another word that a table, alias or type follows,
//     and the names of a WITH list;
//  4. a name behind ::, which is a type;
//  5. a keyword in the place where only that keyword is meant (isKeyword).
//
// What isn't sure counts as a function: its name isn't on the list, so it marks.

// body is the state of reading one statement.
type body struct {
	merge, declare, copies, ddl, index bool
	inserts                            bool // the statement begins with INSERT or MERGE
	updates                            bool // UPDATE has been seen

	before, earlier keyword // what the last two tokens were; before is plain for a name
	depth           int
	level           level
	outer           [deepest]level
	copied          bool // the other end of COPY has been seen
}

// level is what is known of the parentheses around a token.
type level uint8

const (
	// withList: the names of a WITH list are read.
	withList level = 1 << iota
	// distinctOn: an expression follows the closing parenthesis.
	distinctOn
)

// body reads the rest of a statement.
func (x *reading) body(b body) {
	if b.before == plain {
		b.before = opening // an expression may follow, or WITH
	}
	for x.t.kind != end && x.t.kind != bad && (b.depth > 0 || !x.t.is(';')) {
		if b.copies {
			x.copyEnd(&b)
		}
		switch x.t.kind {
		case word, quoted:
			x.name(&b)
			continue // it has advanced
		case text, number, param:
			b.follow(operand)
		case self:
			if !x.punctuation(&b) {
				return
			}
		case operator:
			if x.t.to-x.t.from == 2 {
				b.follow(cast)
			} else {
				b.follow(begin)
			}
		}
		x.advance()
	}
	if b.depth > 0 {
		x.mark(unreadable)
	}
}

func (b *body) follow(k keyword) { b.earlier, b.before = b.before, k }

// punctuation handles one of ( ) [ ] , ; and a dot that belongs to no name. It returns
// false if the statement can't be read on.
func (x *reading) punctuation(b *body) bool {
	switch x.t.c {
	case '(':
		return x.open(b)
	case ')':
		if b.depth == 0 {
			x.mark(unreadable)
			x.skipAll()
			return false
		}
		after := operand
		if b.level&distinctOn != 0 {
			after = begin
		}
		b.depth--
		b.level = b.outer[b.depth]
		b.follow(after)
	case ']':
		b.follow(operand)
	case ',':
		b.follow(comma)
	case ';': // within parentheses, as in CREATE RULE
		x.mark(unreadable)
	default:
		b.follow(begin)
	}
	return true
}

// open enters a parenthesis.
func (x *reading) open(b *body) bool {
	if b.depth == deepest {
		x.mark("parentheses deeper than 250")
		x.skipAll()
		return false
	}
	if b.before == operand {
		b.level &^= withList // a query after the list
	}
	b.outer[b.depth] = b.level
	b.level = 0
	if b.before == wOn && b.earlier == wDistinct {
		b.level = distinctOn
	}
	b.depth++
	b.follow(opening)
	return true
}

// skipAll gives the text up.
func (x *reading) skipAll() { x.s.at = len(x.s.text); x.advance() }

// name reads a word, or a name with its qualifiers, and the parenthesis after it. It
// leaves the token after these to be read.
func (x *reading) name(b *body) {
	first, last, parts := x.t, x.t, 1
	temporary := x.isTemporary(last)
	for x.advance(); x.t.is('.'); x.advance() {
		look := x.peek()
		if look.kind != word && look.kind != quoted {
			break
		}
		x.advance()
		last = x.t
		parts++
		temporary = temporary || x.isTemporary(last)
	}
	if temporary {
		x.mark("pg_temp")
	}
	if b.updates && string(x.folding(last)) == "pg_settings" {
		x.mark("UPDATE pg_settings") // a rule calls set_config
	}
	k := plain
	if parts == 1 && first.kind == word && first.to-first.from <= longestKeyword {
		k = keywords[string(x.lower(first))]
	}
	if k == wOperator && x.t.is('(') {
		x.operator(b)
		return
	}
	if x.t.is('(') {
		x.call(b, k, first, last, parts)
	}
	x.notice(b, k, first)
	b.follow(k)
}

// isTemporary reports whether a name is that of a schema of temporary objects.
func (x *reading) isTemporary(t token) bool {
	n := x.bytesOf(t)
	if t.kind == quoted {
		return bytes.HasPrefix(n, []byte(`"pg_temp`))
	}
	return len(n) >= len("pg_temp") && bytes.EqualFold(n[:len("pg_temp")], []byte("pg_temp"))
}

// operator reads OPERATOR(schema.+).
func (x *reading) operator(b *body) {
	x.advance()
	symbols := 0
	for !x.atEnd() && !x.t.is(')') {
		switch {
		case x.t.kind == operator:
			symbols++
		case symbols > 0 || x.t.kind != word && x.t.kind != quoted && !x.t.is('.'):
			x.mark(`function "operator"`)
			x.skip()
			return
		}
		x.advance()
	}
	if symbols == 0 {
		x.mark(`function "operator"`)
	}
	if !x.atEnd() {
		x.advance()
	}
	b.follow(begin)
}

// copyEnd looks at what COPY reads from or writes to.
func (x *reading) copyEnd(b *body) {
	if b.copied || b.depth > 0 || b.before != wFrom && b.before != wTo {
		return
	}
	b.copied = true
	if !x.isWord("stdin") && !x.isWord("stdout") {
		x.mark("COPY with a file or program")
	}
}

// notice looks for words that leave something, and for those of a WITH list.
func (x *reading) notice(b *body, k keyword, t token) {
	b.updates = b.updates || k == wUpdate
	switch {
	case b.before == wInto && !(b.inserts && (b.earlier == wInsert || b.earlier == wMerge)) && (k == wTemp || string(x.lower(t)) == "local"):
		x.mark("SELECT INTO TEMP")
	case k == wHold && b.declare && b.before == wWith:
		x.mark("DECLARE ... WITH HOLD")
	case k == wExecute && b.ddl && b.before == wAs:
		x.mark("EXECUTE")
	case k == wWith && b.before == opening:
		b.level |= withList
	case k == wQuery, k == wTable, k == wInsert, k == wUpdate, k == wMerge:
		b.level &^= withList
	}
}
