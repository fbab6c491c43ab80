package leftovers

import (
	"bytes"
	"slices"
	"strings"
)

// setting reads SET and RESET. A value in SET is always a list of literals, so what is set
// is known from the text.
func (x *reading) setting(first []byte) bool {
	switch string(first) {
	case "set":
		x.advance()
		x.set()
	case "reset":
		x.advance()
		x.reset()
	default:
		return false
	}
	return true
}

// set reads what follows SET.
func (x *reading) set() {
	local := false
	for !x.isVariable() {
		switch {
		case !local && x.accept("local"):
			local = true
			continue
		case x.isWord("session"):
			x.advance()
			if x.accept("characteristics") {
				x.characteristics(local)
				return
			}
			if x.accept("authorization") {
				x.assign(local, "session_authorization", "SESSION AUTHORIZATION ")
				return
			}
			continue
		}
		x.words(local)
		return
	}
	name, raw := x.variable()
	switch {
	case x.accept("to"):
	case x.t.kind == operator && x.t.c == '=':
		x.advance()
	default: // FROM CURRENT takes a value that isn't in the text
		x.mark("SET without a value")
		x.skip()
		return
	}
	x.assign(local, name, raw+" TO ")
}

// isVariable reports whether a parameter is named here, and not another word of SET.
func (x *reading) isVariable() bool {
	if x.t.kind == quoted {
		return true
	}
	look := x.peek()
	return look.is('.') || look.kind == operator && look.c == '=' || string(x.lower(look)) == "to" || string(x.lower(look)) == "from"
}

// words reads the kinds of SET that name their parameter in words.
func (x *reading) words(local bool) {
	switch {
	case x.isWord("transaction"), x.isWord("constraints"): // until the transaction ends
		name := string(x.lower(x.t))
		x.skip()
		x.change(Change{Kind: SetLocal, Name: name})
	case x.accept("time"):
		x.accept("zone")
		if x.accept("local") {
			x.resets(local, "timezone", "RESET timezone")
			return
		}
		x.assign(local, "timezone", "TIME ZONE ")
	case x.accept("schema"):
		x.assign(local, "search_path", "SCHEMA ")
	case x.accept("names"):
		if x.atEnd() {
			x.resets(local, "client_encoding", "RESET client_encoding")
			return
		}
		x.assign(local, "client_encoding", "NAMES ")
	case x.accept("role"):
		x.assign(local, "role", "ROLE ")
	case x.accept("xml"):
		x.accept("option")
		x.assign(local, "xmloption", "XML OPTION ")
	default:
		x.mark("SET of an unknown kind")
		x.skip()
	}
}

// variable reads the name of a parameter, and returns it as PostgreSQL compares it, and as
// it was written.
func (x *reading) variable() (name, raw string) {
	from := x.t.from
	to := from
	for x.t.kind == word || x.t.kind == quoted {
		name += string(lowered(identifier(x.s.text, x.t)))
		to = x.t.to
		if x.advance(); !x.t.is('.') {
			break
		}
		name += "."
		x.advance()
	}
	if strings.IndexFunc(name, func(c rune) bool { return c >= 0x80 }) >= 0 || name == "" || strings.HasSuffix(name, ".") {
		x.mark(unreadable)
	}
	if now, ok := renamed[name]; ok {
		name = now
	}
	return name, string(x.s.text[from:to])
}

// renamed are parameters with an old name, too.
var renamed = map[string]string{
	"sort_mem": "work_mem", "vacuum_mem": "maintenance_work_mem", "force_parallel_mode": "debug_parallel_query",
	"ssl_ecdh_curve": "ssl_groups",
}

// assign reads a value. head is what stands before it in an equal statement.
func (x *reading) assign(local bool, name, head string) {
	if x.isWord("default") && x.peekEnds() {
		x.advance()
		x.resets(local, name, "SET "+head+"DEFAULT")
		return
	}
	from, to := x.t.from, x.t.from
	var values []string
	before := kind(end)
	for ; !x.atEnd(); x.advance() {
		if !x.isLiteral() || x.t.kind == text && before == text { // a string in two parts
			x.mark("SET with a value that is not understood")
		}
		switch x.t.kind {
		case word, quoted, text, number:
			values = append(values, x.literal(x.t))
		}
		to, before = x.t.to, x.t.kind
	}
	if from == to {
		x.mark("SET without a value")
		return
	}
	x.assigned(local, name, "SET "+head+string(x.s.text[from:to]), values)
}

// isLiteral reports whether the token may be part of a value. Parentheses are those of
// INTERVAL(0).
func (x *reading) isLiteral() bool {
	switch t := x.t; t.kind {
	case word, quoted, text, number:
		return true
	case self:
		return t.c == ',' || t.c == '(' || t.c == ')'
	case operator:
		return t.c == '+' || t.c == '-'
	}
	return false
}

func (x *reading) peekEnds() bool {
	look := x.peek()
	return look.kind == end || look.is(';')
}

// literal returns what a literal stands for, and noValue for a string that isn't plain.
func (x *reading) literal(t token) string {
	s := x.bytesOf(t)
	switch {
	case t.kind == number:
		return string(s)
	case t.kind != text:
		return string(identifier(x.s.text, t))
	case t.c != '\'':
		return noValue
	}
	return string(bytes.ReplaceAll(s[1:len(s)-1], []byte("''"), []byte("'")))
}

// noValue is the value of no parameter.
const noValue = "\x00"

// assigned notes what is set.
func (x *reading) assigned(local bool, name, sql string, values []string) {
	c := Change{Kind: Set, Name: name, SQL: sql}
	switch why := notRead(name, values); {
	case why != "":
		x.markLasting(why, name == "seed")
		return
	case local, ofTransaction(name):
		c.Kind = SetLocal
	case strings.ContainsFunc(sql, func(r rune) bool { return r >= 0x80 || r == '\\' }):
		x.mark("SET with a backslash or characters that are not ASCII") // other settings give it another meaning
	}
	x.change(c)
}

// ofTransaction reports whether a parameter begins anew with each transaction.
func ofTransaction(name string) bool {
	return name == "transaction_isolation" || name == "transaction_read_only" || name == "transaction_deferrable"
}

// resets notes that a parameter gets its first value again.
func (x *reading) resets(local bool, name, sql string) {
	if !x.atEnd() {
		return // a syntax error, which Read sees
	}
	c := Change{Kind: Reset, Name: name, SQL: sql}
	if local || ofTransaction(name) {
		c.Kind = SetLocal
	}
	x.change(c)
}

// characteristics reads SET SESSION CHARACTERISTICS AS TRANSACTION and the modes.
func (x *reading) characteristics(local bool) {
	if !x.accept("as") || !x.accept("transaction") {
		x.mark(unreadable)
	}
	for !x.atEnd() {
		name, value := "default_transaction_read_only", "on"
		switch {
		case x.accept("isolation"):
			x.accept("level")
			name, value = "default_transaction_isolation", x.isolation()
		case x.accept("read"):
			if !x.accept("only") {
				x.accept("write")
				value = "off"
			}
		case x.accept("not"):
			x.accept("deferrable")
			name, value = "default_transaction_deferrable", "off"
		case x.accept("deferrable"):
			name = "default_transaction_deferrable"
		default:
			x.mark(unreadable)
			x.skip()
			return
		}
		x.assigned(local, name, "SET "+name+" TO '"+value+"'", nil)
		if x.t.is(',') {
			x.advance()
		}
	}
}

func (x *reading) isolation() string {
	switch {
	case x.accept("serializable"):
		return "serializable"
	case x.accept("repeatable"):
		x.accept("read")
		return "repeatable read"
	case x.accept("read"):
		if x.accept("uncommitted") {
			return "read uncommitted"
		}
		x.accept("committed")
	}
	return "read committed"
}

// reset reads what follows RESET.
func (x *reading) reset() {
	look := x.peek()
	switch next := string(x.lower(look)); {
	case x.isWord("all") && x.peekEnds():
		x.advance()
		x.change(Change{Kind: ResetAll})
	case x.isWord("time") && next == "zone":
		x.advance()
		x.advance()
		x.resets(false, "timezone", "RESET timezone")
	case x.isWord("session") && next == "authorization":
		x.advance()
		x.advance()
		x.resets(false, "session_authorization", "RESET SESSION AUTHORIZATION")
	case x.isWord("transaction") && next == "isolation":
		x.skip()
		x.change(Change{Kind: SetLocal, Name: "transaction_isolation"})
	default:
		name, raw := x.variable()
		x.resets(false, name, "RESET "+raw)
	}
}

// notRead returns why texts can't be read on, or replayed, once a parameter has these
// values. It returns "" if they can.
func notRead(name string, values []string) string {
	switch name {
	case "standard_conforming_strings":
		if !slices.Contains([]string{"on", "true", "yes", "1"}, strings.ToLower(strings.Join(values, ","))) {
			return "standard_conforming_strings = off"
		}
	case "client_encoding":
		if len(values) != 1 || !safeEncoding(values[0]) {
			return "a client_encoding with ASCII bytes inside other characters"
		}
	case "search_path":
		for i, v := range values {
			switch {
			case i > 0 && v == "pg_catalog":
				return "a search_path with a schema before pg_catalog"
			case strings.HasPrefix(v, "pg_temp"):
				return "a search_path with pg_temp"
			case v == noValue:
				return "a search_path that is not understood"
			}
		}
	case "seed":
		return "SET seed"
	}
	return ""
}

// Unreadable returns why texts of a session can't be read if it has this parameter from its
// login on, or the server reports it, "" if they can. That lasts, DISCARD ALL or not.
func Unreadable(name, value string) string {
	switch name = strings.ToLower(name); name {
	case "standard_conforming_strings", "client_encoding":
		return notRead(name, []string{value})
	case "search_path":
		values := strings.Split(strings.ReplaceAll(strings.ToLower(value), `"`, ""), ",")
		for i := range values {
			values[i] = strings.TrimSpace(values[i])
		}
		return notRead(name, values)
	case "options":
		if strings.Contains(value, `\`) {
			return "options with a backslash"
		}
		flat := strings.ReplaceAll(strings.ToLower(value), "-", "_")
		for _, p := range []string{"standard_conforming_strings", "client_encoding", "search_path"} {
			if strings.Contains(flat, p) {
				return "options that set " + p
			}
		}
	}
	return ""
}

// safeEncoding reports whether all characters of an encoding that aren't ASCII have no
// byte of ASCII in them.
func safeEncoding(name string) bool {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteRune(c)
		}
	}
	n := b.String()
	for _, p := range []string{"latin", "iso8859", "win", "koi8", "euc", "abc", "tcvn"} {
		if strings.HasPrefix(n, p) {
			return !strings.Contains(n, "win") || !strings.Contains(n, "9") // 932, 936, 949, 950
		}
	}
	switch n {
	case "utf8", "unicode", "sqlascii", "muleinternal", "alt", "vscii":
		return true
	}
	return false
}
