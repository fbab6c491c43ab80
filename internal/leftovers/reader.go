package leftovers

import (
	"bytes"
	"fmt"
	"strings"
)

// Limit is how many bytes of a text are read, which takes the event loop about a
// millisecond. A longer text marks the session.
const Limit = 64 << 10

// deepest is how many levels of parentheses are read.
const deepest = 250

// Reader reads the texts of clients of one server. It changes nothing of itself, so any
// goroutine may use it.
type Reader struct {
	builtin map[string]bool
	extra   map[string]bool // as they are after folding; qualified ones as schema.name
}

// NewReader returns a Reader for servers of a major version. functions are what the operator
// has added to the built-in functions, as ParseFunctions returns them. A name without a schema
// stands for functions of that name in any schema.
func NewReader(major int, functions []string) *Reader {
	r := &Reader{builtin: builtinOf(major), extra: make(map[string]bool)}
	for _, f := range functions {
		r.extra[f] = true
	}
	return r
}

// ParseFunctions reads a list of functions' names, with or without schema, that are written as
// in SQL, with commas between them.
func ParseFunctions(list string) (names []string, err error) {
	s := scanner{text: []byte(list)}
	t := s.next()
	for t.kind != end {
		var parts []string
		for {
			if t.kind != word && t.kind != quoted {
				return nil, fmt.Errorf("%q is no list of functions' names with commas between them", list)
			}
			parts = append(parts, string(identifier(s.text, t)))
			if t = s.next(); !t.is('.') {
				break
			}
			t = s.next()
		}
		names = append(names, strings.Join(parts, "."))
		switch last := names[len(names)-1]; {
		case len(parts) > 2:
			return nil, fmt.Errorf("%s has more than a schema before its name", last)
		case t.is(','):
			t = s.next()
		case t.kind != end:
			return nil, fmt.Errorf("behind %s there is neither a comma nor the end", last)
		}
	}
	return names, nil
}

// Left is what a text leaves if all of its statements run.
type Left struct {
	// Mark is set if the text leaves something unknown.
	Mark Mark
	// Changes of parameters, in their order.
	Changes []Change
}

// Mark says why a session can't move to another backend.
type Mark struct {
	// Why names, for people, the first thing that isn't understood. It is empty if there is none.
	Why string
	// Lasts: even DISCARD ALL doesn't remove what is left.
	Lasts bool
}

// Kind is the kind of a Change.
type Kind uint8

const (
	// Set: a parameter gets a value until the session ends.
	Set Kind = iota
	// SetLocal: a SET whose effect ends with the transaction.
	SetLocal
	// Reset: a parameter has the value again that it had after the login.
	Reset
	// ResetAll: so have all parameters but role and session_authorization.
	ResetAll
)

// Change is what a statement changes if it succeeds.
type Change struct {
	Kind Kind
	// Name of the parameter as PostgreSQL compares it, empty for ResetAll.
	Name string
	// SQL of a Set or Reset makes the same change in another session, whatever its settings are.
	// That of a SetLocal would make it for the session.
	SQL string
}

// Read tells what a text of one or more statements leaves.
func (r *Reader) Read(sql []byte) Left {
	if len(sql) > Limit {
		return Left{Mark: Mark{Why: "a text over 64 KiB"}}
	}
	x := reading{list: r, s: scanner{text: sql}}
	for x.advance(); x.t.kind != end && x.t.kind != bad; {
		if x.t.is(';') {
			x.advance()
			continue
		}
		x.statement()
		if !x.atEnd() {
			x.mark(unreadable)
			x.skip()
		}
	}
	if x.t.kind == bad {
		x.mark(unreadable)
	}
	if x.left.Mark.Why != "" {
		x.left.Changes = nil
	}
	return x.left
}

const unreadable = "text that is not understood"

// reading is the state of one Read. It reads on after a mark, because a later one may last.
type reading struct {
	list   *Reader
	s      scanner
	t      token // the next one to look at
	left   Left
	folded [longestName]byte
}

func (x *reading) advance() { x.t = x.s.next() }

func (x *reading) mark(why string) {
	if x.left.Mark.Why == "" {
		x.left.Mark.Why = why
	}
}

// bytesOf returns the text of a token.
func (x *reading) bytesOf(t token) []byte { return x.s.text[t.from:t.to] }

// lower returns the text of a word in lower case, until the next call, and nothing for
// another token.
func (x *reading) lower(t token) []byte {
	if t.kind != word {
		return nil
	}
	return fold(&x.folded, x.bytesOf(t))
}

// isWord reports whether the next token is this keyword.
func (x *reading) isWord(w string) bool { return string(x.lower(x.t)) == w }

// accept skips the next token if it is one of these keywords.
func (x *reading) accept(words ...string) bool {
	for _, w := range words {
		if x.isWord(w) {
			x.advance()
			return true
		}
	}
	return false
}

// atEnd reports whether the statement ends here.
func (x *reading) atEnd() bool { return x.t.kind == end || x.t.kind == bad || x.t.is(';') }

// skip goes to the end of the statement.
func (x *reading) skip() {
	for !x.atEnd() {
		x.advance()
	}
}

func (x *reading) change(c Change) { x.left.Changes = append(x.left.Changes, c) }

// identifier returns what a word or quoted identifier stands for.
func identifier(sql []byte, t token) []byte {
	name := sql[t.from:t.to]
	if t.kind == quoted {
		name = bytes.ReplaceAll(name[1:len(name)-1], []byte(`""`), []byte(`"`))
	} else {
		name = lowered(name)
	}
	return name[:min(len(name), longestName)]
}

// lowered returns a copy with the letters of ASCII in lower case. In PostgreSQL the other
// letters may change, too, but only with an encoding of one byte.
func lowered(name []byte) []byte {
	name = bytes.Clone(name)
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			name[i] = c | 0x20
		}
	}
	return name
}
