package relay

import "bytes"

// callsIn returns the traits of the function calls that a text shows. It takes each word
// before an opening parenthesis for a call: in a string or a comment it can only add
// traits.
func callsIn(text []byte) (t traits) {
	for i := bytes.IndexByte(text, '('); i >= 0; i = bytes.IndexByte(text, '(') {
		t |= traitsOfCall(wordBefore(text[:i]), text[i+1:])
		text = text[i+1:]
	}
	return t
}

// wordBefore returns the last identifier of a text, without quotes.
func wordBefore(text []byte) []byte {
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] >= '\t' && text[len(text)-1] <= '\r') {
		text = text[:len(text)-1]
	}
	if n := len(text); n > 0 && text[n-1] == '"' {
		return text[bytes.LastIndexByte(text[:n-1], '"')+1 : n-1]
	}
	i := len(text)
	for i > 0 && wordByte(text[i-1]) {
		i--
	}
	return text[i:]
}

const (
	shortestCall = len("setval")
	longestCall  = len("pg_replication_origin_session_setup")
)

// traitsOfCall returns the traits of a function. Effects that end with the transaction
// don't count, so a function of large objects has none: its descriptors are closed then.
func traitsOfCall(name, arguments []byte) traits {
	if len(name) < shortestCall || len(name) > longestCall {
		return 0
	}
	var buf [longestCall]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	switch string(buf[:len(name)]) {
	case "set_config":
		if isLocal(arguments) {
			return traitSets
		}
		return traitSets | traitSession
	case "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared":
		return traitSession
	case "dblink_connect", "dblink_connect_u", "setseed", "pg_backup_start", "pg_start_backup",
		"pg_replication_origin_session_setup", "pg_create_physical_replication_slot", "pg_create_logical_replication_slot":
		return traitIndelible
	case "nextval", "setval":
		return traitSequence
	}
	return 0
}

// isLocal reports whether the last argument of set_config is the word true, so that the
// change ends with the transaction. arguments is the text after the opening parenthesis.
func isLocal(arguments []byte) bool {
	for depth, from, i := 1, 0, 0; i < len(arguments); i++ {
		switch c := arguments[i]; c {
		case '\'', '"':
			n := quotedLen(arguments[i:], c)
			if n < 0 {
				return false
			}
			i += n - 1
		case '$':
			if i > 0 && wordByte(arguments[i-1]) {
				continue // a part of an identifier
			}
			n := dollarLen(arguments[i:])
			if n < 0 {
				return false
			}
			i += n - 1
		case '-', '/':
			if bytes.HasPrefix(arguments[i:], []byte("--")) || bytes.HasPrefix(arguments[i:], []byte("/*")) {
				return false // a comment may hold anything
			}
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				last := bytes.TrimSpace(arguments[from:i])
				return len(last) == len("true") && bytes.EqualFold(last, []byte("true"))
			}
		case ',':
			from = i + 1
		}
	}
	return false
}
