package relay

import (
	"bytes"
	"strings"
)

// Trusting is the Reader that looks for SET and RESET in a text and believes that nothing else in
// it leaves anything behind.
type Trusting struct{}

// Unread implements Reader.
func (Trusting) Unread(string) *Effect { return nil }

// Blind implements Reader.
func (Trusting) Blind(*Params) string { return "" }

// Doubts implements Reader.
func (Trusting) Doubts() bool { return false }

// Read implements Reader.
func (Trusting) Read(text []byte) *Effect {
	if !mayAssign(text) {
		return nil // the usual case
	}
	var e *Effect
	for len(text) > 0 {
		end, ok := statementEnd(text)
		if !ok {
			return &Effect{Mark: markUnseen}
		}
		if one := assignmentIn(text[:end]); one != nil {
			if e == nil {
				e = &Effect{}
			}
			e.Sets = append(e.Sets, one.Sets...)
			if one.Mark != "" {
				e.Mark = one.Mark
			}
		}
		text = text[min(end+1, len(text)):]
	}
	return e
}

// mayAssign reports whether a statement of a text may be a SET or RESET.
func mayAssign(text []byte) bool {
	for {
		if word, _ := nextWord(text); bytes.EqualFold(word, []byte("set")) || bytes.EqualFold(word, []byte("reset")) {
			return true
		}
		i := bytes.IndexByte(text, ';')
		if i < 0 {
			return false
		}
		text = text[i+1:]
	}
}

// assignmentIn returns the effect of one statement, nil if it is no SET or RESET.
func assignmentIn(text []byte) *Effect {
	text = bytes.TrimSpace(text)
	word, rest := nextWord(text)
	switch {
	case bytes.EqualFold(word, []byte("reset")):
		return resetOf(text, rest)
	case bytes.EqualFold(word, []byte("set")):
		return setOf(text, rest)
	}
	return nil
}

func resetOf(text, rest []byte) *Effect {
	var buf [64]byte
	name, tail := parameter(rest, buf[:])
	switch name {
	case "all":
		return &Effect{Sets: []Assignment{{SQL: string(text), Reset: true}}}
	case "session":
		name = "session_authorization"
	case "time":
		name = "timezone"
	}
	if name == "" || !isRemade(tail) {
		return &Effect{Mark: markUnseen}
	}
	return &Effect{Sets: []Assignment{{Name: name, SQL: string(text), Reset: true}}}
}

func setOf(text, rest []byte) *Effect {
	var buf [64]byte
	name, tail := parameter(rest, buf[:])
	if name == "session" {
		switch next, after := parameter(tail, buf[:]); next {
		case "authorization":
			name, tail = "session_authorization", after
		case "characteristics":
			return characteristics(text)
		default:
			name, tail = next, after
		}
	}
	switch name {
	case "local":
		if name, _ = parameter(tail, buf[:]); strings.Contains(name, ".") {
			return &Effect{Sets: []Assignment{{Name: name}}}
		}
		return &Effect{}
	case "transaction", "constraints", "transaction_isolation", "transaction_read_only", "transaction_deferrable":
		return &Effect{} // it ends with its transaction
	}
	if longer := longNames[name]; longer != "" {
		name = longer
	}
	if name == "" || !isRemade(text) {
		return &Effect{Mark: markUnseen}
	}
	value := strings.ToLower(strings.TrimSpace(string(tail)))
	for _, sep := range []string{"=", "to "} {
		if v, ok := strings.CutPrefix(value, sep); ok {
			value = strings.TrimSpace(v)
			break
		}
	}
	// SET ROLE NONE isn't RESET ROLE, which goes back to the role of the login.
	return &Effect{Sets: []Assignment{{Name: name, SQL: string(text), Reset: value == "default"}}}
}

// longNames are the parameters that SQL names otherwise, by the first word.
var longNames = map[string]string{
	"time": "timezone", "names": "client_encoding", "schema": "search_path", "xml": "xmloption",
}

// characteristics returns the effect of SET SESSION CHARACTERISTICS, which sets several parameters.
// So each of its texts is remembered.
func characteristics(text []byte) *Effect {
	if !isRemade(text) {
		return &Effect{Mark: markUnseen}
	}
	return &Effect{Sets: []Assignment{{Name: characteristicsName, SQL: string(text)}}}
}

// parameter reads the name of a parameter, which may have a prefix with a dot.
func parameter(text, buf []byte) (name string, rest []byte) {
	id, rest := identifier(text, buf)
	name = strings.ToLower(string(id))
	for len(id) > 0 && len(rest) > 0 && rest[0] == '.' {
		if id, rest = identifier(rest[1:], buf); len(id) > 0 {
			name += "." + strings.ToLower(string(id))
		}
	}
	if len(id) == 0 || len(rest) > 0 && (rest[0] == '$' || rest[0] >= 0x80) {
		return "", nil
	}
	return name, rest
}

// isRemade reports whether a text means the same whatever the settings of a backend are.
func isRemade(text []byte) bool {
	for _, c := range text {
		if c == '\\' || c >= 0x80 || c == 0 {
			return false
		}
	}
	return true
}
