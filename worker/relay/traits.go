package relay

import (
	"bytes"
)

// traits are the effects of a statement that outlive its transaction, as far as its
// text tells. A function can hide any of them; server_reset_query_always is for such
// functions.
type traits uint16

const (
	// traitSets: the statement may change tracked parameters.
	traitSets traits = 1 << iota
	// traitLasting: it may SET an untracked parameter, which no other client may find.
	traitLasting
	// traitTemp: it may make temporary objects.
	traitTemp
	// traitSession: it calls a function whose effect lasts as long as the session, as an
	// advisory lock does. traitIndelible: its effect outlives even DISCARD ALL.
	// traitSequence: currval and lastval remember its effect.
	traitSession
	traitIndelible
	traitSequence
	// traitListen: it may be a LISTEN; listens is sure.
	traitListen
	// traitNames: it may name prepared statements; mentionsIn is sure.
	traitNames
	// traitHold: it may declare a cursor that outlives the transaction.
	traitHold
	// traitOpens: a transaction block is open after it. traitCloses: none is open after
	// it. Both: unknown.
	traitOpens
	traitCloses
	// traitCommits: it may commit a transaction block.
	traitCommits
	// traitAll are the traits of an unknown text.
	traitAll traits = 1<<iota - 1

	// traitOutdated: it names a statement whose result isn't what the client knows
	// (naming.go). No text tells.
	traitOutdated traits = traitAll + 1

	traitControl = traitOpens | traitCloses | traitCommits
)

// after returns whether a client is in a transaction block after a text with these
// traits, if it was in one before or not. known is false when the text doesn't tell.
func (t traits) after(in bool) (inBlock, known bool) {
	switch t & (traitOpens | traitCloses) {
	case traitOpens:
		return true, true
	case traitCloses:
		return false, true
	case 0:
		return in, true
	}
	return in, false
}

// unknown reports whether the text isn't known. It may have any of the traits, but most
// texts have none.
func (t traits) unknown() bool { return t|traitControl == traitAll }

// begins reports whether the text is a single statement that opens a block.
func (t traits) begins() bool { return t&traitControl == traitOpens }

// traitsOf returns the traits of a text of one or more statements. It takes each
// semicolon for the end of a statement; a semicolon in a string can only add traits.
// What begins and ends transactions must be exact, and is left to control.
func traitsOf(text []byte) traits { return traitsOfStatements(text) | callsIn(text) }

func traitsOfStatements(text []byte) traits {
	word, rest := nextWord(text)
	i := bytes.IndexByte(rest, ';')
	if i < 0 {
		return traitsOfOne(word, rest) | controlOf(word, rest)
	}
	if len(bytes.TrimLeft(rest[i+1:], " \t\r\n\f\v")) == 0 {
		return traitsOfOne(word, rest[:i]) | controlOf(word, rest[:i]) // one statement, with a semicolon
	}
	t := traitsOfOne(word, rest[:i]) &^ traitControl
	for rest = rest[i+1:]; len(rest) > 0; {
		one := rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			one, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		t |= traitsOfOne(nextWord(one)) &^ traitControl
	}
	return t | control(text)
}

func traitsOfOne(word, rest []byte) traits {
	if len(word) > 10 {
		return 0
	}
	var lower [10]byte
	for i, c := range word {
		lower[i] = c | 0x20
	}
	switch string(lower[:len(word)]) {
	case "select", "with", "values", "table":
		return traitsOfQuery(rest)
	case "explain":
		if containsFold(rest, "execute") {
			return traitsOfQuery(rest) | traitSets | traitNames
		}
		return traitsOfQuery(rest)
	case "set":
		return traitsOfSet(rest)
	case "update":
		if updatesSettings(rest) {
			return traitSets | traitSession // a rule calls set_config
		}
	case "listen":
		return traitListen
	case "create":
		if containsFold(rest, "temp") {
			return traitTemp
		}
	case "declare":
		if containsFold(rest, "hold") {
			return traitHold
		}
	case "reset", "discard", "rollback", "abort", "commit", "end", "release", "do", "call":
		return traitSets
	case "execute":
		return traitSets | traitNames
	case "deallocate":
		return traitNames
	case "":
		if len(rest) > 0 {
			return traitAll // no word: an unfinished comment, or nonsense
		}
	}
	return 0
}

// traitsOfQuery reads the text after the first word of a query.
func traitsOfQuery(rest []byte) traits {
	if containsFold(rest, "into") && containsFold(rest, "temp") {
		return traitTemp
	}
	return 0
}

// traitsOfSet reads the text after SET. The change ends with the transaction, or is of
// a parameter that follows the client anyway, or it lasts.
func traitsOfSet(rest []byte) traits {
	word, rest := nextWord(rest)
	if bytes.EqualFold(word, []byte("session")) {
		word, _ = nextWord(rest)
	}
	for _, w := range [...]string{"local", "transaction", "constraints", "time", "names"} {
		if len(word) == len(w) && containsFold(word, w) {
			return traitSets
		}
	}
	for _, w := range tracked {
		if len(word) == len(w) && bytes.EqualFold(word, []byte(w)) {
			return traitSets
		}
	}
	return traitSets | traitLasting
}

// updatesSettings reads the text after UPDATE.
func updatesSettings(rest []byte) bool {
	for {
		word, after := nextWord(bytes.TrimLeft(skipBlank(rest), "\". \t\r\n"))
		if !bytes.EqualFold(word, []byte("only")) && !bytes.EqualFold(word, []byte("pg_catalog")) {
			return bytes.EqualFold(word, []byte("pg_settings"))
		}
		rest = after
	}
}

// nextWord returns the first word after spaces and comments, and the text after it.
func nextWord(text []byte) (word, rest []byte) {
	text = skipBlank(text)
	n := 0
	for n < len(text) && (text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z' || text[n] == '_' || n > 0 && text[n] >= '0' && text[n] <= '9') {
		n++
	}
	return text[:n], text[n:]
}

// skipBlank skips spaces, opening parentheses and comments. It doesn't skip a comment
// without an end.
func skipBlank(text []byte) []byte {
	for len(text) > 0 {
		switch c := text[0]; {
		case c == ' ' || c >= '\t' && c <= '\r' || c == '(' || c == 0:
			text = text[1:]
		case bytes.HasPrefix(text, []byte("--")):
			i := bytes.IndexAny(text, "\r\n")
			if i < 0 {
				return nil
			}
			text = text[i:]
		case bytes.HasPrefix(text, []byte("/*")):
			n := commentLen(text)
			if n < 0 {
				return text
			}
			text = text[n:]
		default:
			return text
		}
	}
	return nil
}

// commentLen is the length of a comment, nested comments included, -1 if it has no end.
func commentLen(text []byte) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch {
		case text[i] == '/' && text[i+1] == '*':
			depth++
			i++
		case text[i] == '*' && text[i+1] == '/':
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// containsFold reports whether text contains a word, ignoring case. word is in lower
// case.
func containsFold(text []byte, word string) bool {
	for i := 0; i+len(word) <= len(text); i++ {
		j := 0
		for j < len(word) && text[i+j]|0x20 == word[j] {
			j++
		}
		if j == len(word) {
			return true
		}
	}
	return false
}

// identifier returns the SQL identifier at the beginning of a text, in lower case
// unless it is quoted.
func identifier(text, buf []byte) (name, rest []byte) {
	text = skipBlank(text)
	buf = buf[:0]
	if len(text) > 0 && text[0] == '"' {
		i := bytes.IndexByte(text[1:], '"')
		if i < 0 || i+2 < len(text) && text[i+2] == '"' {
			return nil, text // an embedded quote: not worth it
		}
		return append(buf, text[1:1+i]...), text[i+2:]
	}
	word, rest := nextWord(text)
	return append(buf, bytes.ToLower(word)...), rest
}

// control returns the traits of several statements that concern transactions. It finds
// the ends of statements as PostgreSQL does, because a word in a string must not
// count. A text that it doesn't understand has all these traits.
func control(text []byte) traits {
	var last traits
	any := false
	for n := 0; len(text) > 0; n++ {
		end, ok := statementEnd(text)
		if !ok {
			return traitControl
		}
		t := controlOf(nextWord(text[:end]))
		if t != 0 {
			last, any = t, true
		}
		text = text[min(end+1, len(text)):]
		if n == 0 && len(skipBlank(text)) == 0 {
			return t
		}
	}
	if any {
		last |= traitCommits
	}
	return last
}

// controlOf returns the traits of one statement that concern transactions.
func controlOf(word, rest []byte) traits {
	if len(word) < 3 || len(word) > 8 {
		return 0
	}
	var lower [8]byte
	for i, c := range word {
		lower[i] = c | 0x20
	}
	chain := func(t traits) traits {
		if containsFold(rest, "chain") && !containsFold(rest, "no") {
			return t&^traitCloses | traitOpens
		}
		return t
	}
	switch string(lower[:len(word)]) {
	case "begin":
		return traitOpens
	case "start":
		if containsFold(rest, "transaction") {
			return traitOpens
		}
	case "commit", "end":
		if containsFold(rest, "prepared") {
			return traitCommits
		}
		return chain(traitCloses | traitCommits)
	case "rollback", "abort":
		if containsFold(rest, "to") || containsFold(rest, "prepared") {
			return 0
		}
		return chain(traitCloses)
	case "prepare":
		if next, _ := nextWord(rest); len(next) == len("transaction") && containsFold(next, "transaction") {
			return traitCloses | traitCommits
		}
	}
	return 0
}

// statementEnd returns the offset of the semicolon that ends the first statement, or
// the length of the text. It returns false when that is unknown: the meaning of a
// backslash in a string depends on settings.
func statementEnd(text []byte) (int, bool) {
	for i := 0; i < len(text); {
		n := 1
		switch c := text[i]; {
		case c == ';':
			return i, true
		case c == '\'' || c == '"':
			n = quotedLen(text[i:], c)
		case c == '$' && (i == 0 || !wordByte(text[i-1])):
			n = dollarLen(text[i:])
		case c == '-' && bytes.HasPrefix(text[i:], []byte("--")):
			if n = bytes.IndexAny(text[i:], "\r\n"); n < 0 {
				return len(text), true
			}
		case c == '/' && bytes.HasPrefix(text[i:], []byte("/*")):
			n = commentLen(text[i:])
		}
		if n < 0 {
			return 0, false
		}
		i += n
	}
	return len(text), true
}

// quotedLen is the length of a quoted string or identifier, -1 if it has no end or
// contains a backslash. A doubled quote counts as the end of one string and the
// beginning of the next, which does no harm.
func quotedLen(text []byte, quote byte) int {
	n := bytes.IndexByte(text[1:], quote)
	if n < 0 || quote == '\'' && bytes.IndexByte(text[1:1+n], '\\') >= 0 {
		return -1
	}
	return n + 2
}

// dollarLen is the length of a dollar-quoted string, 1 for a dollar sign that begins
// none, -1 if the string has no end.
func dollarLen(text []byte) int {
	i := 1
	for i < len(text) && wordByte(text[i]) && (i > 1 || text[i] < '0' || text[i] > '9') {
		i++
	}
	if i == len(text) || text[i] != '$' {
		return 1
	}
	tag := text[:i+1]
	n := bytes.Index(text[len(tag):], tag)
	if n < 0 {
		return -1
	}
	return n + 2*len(tag)
}

// wordByte reports whether a byte may be part of an identifier.
func wordByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}
