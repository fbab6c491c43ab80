package leftovers

import "bytes"

// A kind is what PostgreSQL's scanner would make of a piece of text.
type kind uint8

const (
	end      kind = iota // of the text
	word                 // a keyword or identifier
	quoted               // "an identifier"
	text                 // a string of any notation
	number               // with or without a fraction
	param                // $1
	operator             // one character of an operator, or ::
	self                 // one of ( ) [ ] , ; .
	bad                  // an unfinished string or comment, or a notation that isn't read
)

// token is a piece of a text. c is its first byte.
type token struct {
	kind     kind
	c        byte
	from, to int
}

// is reports whether the token is this single character.
func (t token) is(c byte) bool { return t.kind == self && t.c == c }

// scanner cuts a text into tokens where PostgreSQL does. It assumes that
// standard_conforming_strings is on.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) next() token {
	if !s.skip() {
		return token{kind: bad, from: s.at, to: len(s.text)}
	}
	if s.at == len(s.text) {
		return token{kind: end, from: s.at, to: s.at}
	}
	t := token{c: s.text[s.at], from: s.at}
	switch c := t.c; {
	case startsWord(c):
		t.kind = s.word()
	case c == '\'':
		t.kind = s.quote(c, text)
	case c == '"':
		t.kind = s.quote(c, quoted)
	case isDigit(c), c == '.' && isDigit(s.byteAt(1)):
		t.kind = s.number()
	case c == '$':
		t.kind = s.dollar()
	case c == '(', c == ')', c == '[', c == ']', c == ',', c == ';', c == '.':
		t.kind = self
		s.at++
	case c == 0:
		t.kind = bad // no text holds it
		s.at++
	default:
		t.kind = operator
		s.at++
		if c == ':' && s.byteAt(0) == ':' {
			s.at++
		}
	}
	t.to = s.at
	return t
}

// byteAt returns the byte n behind the next one, 0 at the end.
func (s *scanner) byteAt(n int) byte {
	if s.at+n < len(s.text) {
		return s.text[s.at+n]
	}
	return 0
}

// skip skips spaces and comments. It returns false if a comment has no end.
func (s *scanner) skip() bool {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case isSpace(c):
			s.at++
		case c == '-' && s.byteAt(1) == '-':
			s.skipLine()
		case c == '/' && s.byteAt(1) == '*':
			if !s.skipComment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

func (s *scanner) skipLine() {
	for s.at < len(s.text) && s.text[s.at] != '\n' && s.text[s.at] != '\r' {
		s.at++
	}
}

func (s *scanner) skipComment() bool {
	for depth := 0; s.at+1 < len(s.text); s.at++ {
		switch {
		case s.text[s.at] == '/' && s.text[s.at+1] == '*':
			depth++
			s.at++
		case s.text[s.at] == '*' && s.text[s.at+1] == '/':
			s.at++
			if depth--; depth == 0 {
				s.at++
				return true
			}
		}
	}
	return false
}

// word scans a word, or the string that its first letter announces.
func (s *scanner) word() kind {
	switch c := s.text[s.at] | 0x20; s.byteAt(1) {
	case '\'':
		switch c {
		case 'e':
			s.at++
			return s.escaped()
		case 'b', 'x', 'n':
			s.at++
			return s.quote('\'', text)
		}
	case '&':
		if q := s.byteAt(2); c == 'u' && (q == '\'' || q == '"') {
			return bad // Unicode escapes aren't read
		}
	}
	for s.at < len(s.text) && inWord(s.text[s.at]) {
		s.at++
	}
	return word
}

// quote scans up to the closing quote. A doubled one stands for itself.
func (s *scanner) quote(q byte, k kind) kind {
	for s.at++; ; s.at += 2 {
		n := bytes.IndexByte(s.text[s.at:], q)
		if n < 0 {
			s.at = len(s.text)
			return bad
		}
		if s.at += n; s.byteAt(1) != q {
			s.at++
			return k
		}
	}
}

// escaped scans a string with backslash escapes. A string that continues on another line
// has them there, too.
func (s *scanner) escaped() kind {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '\'':
			if s.byteAt(1) == '\'' {
				s.at++
				continue
			}
			s.at++
			if !s.continues() {
				return text
			}
		}
	}
	s.at = len(s.text)
	return bad
}

// continues reports whether a string goes on after its closing quote: after spaces or line
// comments with a line feed among them, there is another quote. It stops at that quote.
func (s *scanner) continues() bool {
	next, lines := *s, false
	for next.at < len(next.text) {
		switch c := next.text[next.at]; {
		case c == '\n', c == '\r':
			lines = true
			next.at++
		case isSpace(c):
			next.at++
		case c == '-' && next.byteAt(1) == '-':
			next.skipLine()
		case c == '\'' && lines:
			s.at = next.at
			return true
		default:
			return false
		}
	}
	return false
}

// number scans a number. What follows it immediately is another token, as in the
// versions of PostgreSQL that allow that.
func (s *scanner) number() kind {
	s.digits()
	if s.byteAt(0) == '.' {
		s.at++
		s.digits()
	}
	if c := s.byteAt(0); c == 'e' || c == 'E' {
		n := 1
		if sign := s.byteAt(1); sign == '+' || sign == '-' {
			n = 2
		}
		if isDigit(s.byteAt(n)) {
			s.at += n
			s.digits()
		}
	}
	return number
}

func (s *scanner) digits() {
	for s.at < len(s.text) && (isDigit(s.text[s.at]) || s.text[s.at] == '_') {
		s.at++
	}
}

// dollar scans a parameter or a dollar-quoted string.
func (s *scanner) dollar() kind {
	if isDigit(s.byteAt(1)) {
		for s.at++; isDigit(s.byteAt(0)); s.at++ {
		}
		return param
	}
	to := s.at + 1
	for to < len(s.text) && inWord(s.text[to]) && s.text[to] != '$' {
		to++
	}
	if to == len(s.text) || s.text[to] != '$' {
		s.at++
		return operator // a lone dollar sign, which is a syntax error
	}
	tag := s.text[s.at : to+1]
	n := bytes.Index(s.text[to+1:], tag)
	if n < 0 {
		s.at = len(s.text)
		return bad
	}
	s.at = to + 1 + n + len(tag)
	return text
}

func isSpace(c byte) bool    { return c == ' ' || c >= '\t' && c <= '\r' }
func isDigit(c byte) bool    { return c >= '0' && c <= '9' }
func startsWord(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func inWord(c byte) bool     { return startsWord(c) || isDigit(c) || c == '$' }
