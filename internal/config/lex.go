package config

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// maxLine is the longest accepted line of any file but credential files, in bytes.
const maxLine = 16 << 10

// blanks are the characters that may surround a value.
const blanks = " \t"

// textLine is one line that is neither empty nor a comment, without surrounding blanks.
type textLine struct {
	no     int // from 1
	indent int // characters before the text
	text   string
	joints []joint
	err    error // why the line can't be used; then text is empty
	bad    int   // how many characters precede the one that err is about
}

// column returns the column of an offset in the text, in characters from 1.
func (l textLine) column(offset int) int {
	_, column := l.place(offset)
	return column
}

// fail returns the problem of a line that can't be used.
func (l textLine) fail() *FileError {
	return &FileError{Line: l.no, Column: l.bad + 1, Msg: l.err.Error()}
}

// joint is the place in the text of a continued line at which the next line of the file begins.
type joint struct {
	at int // offset in the text
	no int // number of the line that begins there
}

// place returns the line and the column of an offset in the text.
func (l textLine) place(at int) (line, column int) {
	line, from, indent := l.no, 0, l.indent
	for _, j := range l.joints {
		if j.at <= at {
			line, from, indent = j.no, j.at, 0
		}
	}
	return line, indent + utf8.RuneCountInString(l.text[from:at]) + 1
}

// textLines yields the lines of data that are neither empty nor a comment.
func textLines(data []byte) iter.Seq[textLine] { return linesUpTo(maxLine, data) }

// linesUpTo is textLines for lines of most bytes at most.
func linesUpTo(most int, data []byte) iter.Seq[textLine] {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	return func(yield func(textLine) bool) {
		no := 0
		for raw := range bytes.Lines(data) {
			no++
			raw = bytes.TrimRight(raw, "\r\n")
			l := textLine{no: no}
			l.bad, l.err = firstUnusable(raw, most)
			if l.err == nil {
				l.text = strings.Trim(string(raw), blanks)
				l.indent = len(raw) - len(bytes.TrimLeft(raw, blanks))
				if l.text == "" || l.text[0] == '#' || l.text[0] == ';' {
					continue
				}
			}
			if !yield(l) {
				return
			}
		}
	}
}

// usable refuses lines that are not text.
func usable(raw []byte) error {
	_, err := firstUnusable(raw, maxLine)
	return err
}

// firstUnusable returns why a line is not text of most bytes at most, and how many characters precede the first that isn't.
func firstUnusable(raw []byte, most int) (before int, err error) {
	if len(raw) > most {
		return 0, fmt.Errorf("the line is longer than %d bytes; shorten it", most)
	}
	for rest := raw; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		switch {
		case r == utf8.RuneError && size == 1:
			return before, errors.New("the line is not UTF-8; convert the file")
		case (r < ' ' && r != '\t') || r == 0x7f:
			return before, fmt.Errorf("the line holds the control character 0x%02x; remove it", r)
		}
		before++
	}
	return 0, nil
}

// splitKey cuts a line into its key and the raw text of its value.
func splitKey(text string) (key, raw string) {
	i := strings.IndexAny(text, blanks+"=")
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimLeft(text[i:], blanks+"=")
}

// plainValue reads the value of an ordinary key: a word, or text in quotes, perhaps with a comment
// after it. given is false if there is no value.
func plainValue(raw string) (value string, given bool, err error) {
	value, _, given, err = scanPlain(raw)
	return value, given, err
}

// scanPlain is plainValue, and also returns where in raw the value ends, with its closing quote.
func scanPlain(raw string) (value string, end int, given bool, err error) {
	if raw == "" {
		return "", 0, false, nil
	}
	if err := refuseTypographic(raw); err != nil {
		return "", 0, false, err
	}
	var rest string
	if q := raw[0]; q == '\'' || q == '"' {
		end := strings.IndexByte(raw[1:], q)
		if end < 0 {
			return "", 0, false, fmt.Errorf("the quote %c is never closed; close it at the end of the value", q)
		}
		value, rest, given = raw[1:1+end], raw[2+end:], true
	} else {
		end := strings.IndexAny(raw, blanks+"#;")
		if end < 0 {
			end = len(raw)
		}
		value, rest, given = raw[:end], raw[end:], end > 0
		if strings.ContainsAny(value, `'"`) {
			return "", 0, false, errors.New("a quote inside the value; put the whole value in the other kind of quotes")
		}
	}
	end = len(raw) - len(rest)
	rest = strings.TrimLeft(rest, blanks)
	if rest != "" && rest[0] != '#' && rest[0] != ';' {
		return "", 0, false, fmt.Errorf("more text behind the value: %q; put the whole value in quotes, or # before a comment", rest)
	}
	return value, end, given, nil
}

// refuseTypographic refuses a value in typographic quotes, which would become part of
// the value.
func refuseTypographic(raw string) error {
	if r, _ := utf8.DecodeRuneInString(raw); typographic(r) {
		return fmt.Errorf(`the typographic quote %c; write " or '`, r)
	}
	return nil
}

// pathValue reads the value of a path key: the rest of the line up to a # after a blank. It removes
// quotes, replaces \c by c and, outside single quotes, $NAME by the variable of the environment.
func pathValue(raw string, env func(string) (string, bool)) (value string, given bool, err error) {
	value, _, given, err = scanPath(raw, env)
	return value, given, err
}

// scanPath is pathValue, and also returns where in raw the value ends, with its closing quote.
func scanPath(raw string, env func(string) (string, bool)) (value string, end int, given bool, err error) {
	if err := refuseTypographic(raw); err != nil {
		return "", 0, false, err
	}
	var out []byte
	keep := 0 // length of out up to the last byte that isn't a bare blank
	quote := byte(0)
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '\\' && i+1 < len(raw):
			i++
			out = append(out, raw[i])
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, given = c, true
		case c == '$' && quote != '\'':
			name := variableName(raw[i+1:])
			content, err := lookup(name, env)
			if err != nil {
				return "", 0, false, err
			}
			i += len(name)
			out = append(out, content...)
		case c == '#' && quote == 0 && (i == 0 || strings.IndexByte(blanks, raw[i-1]) >= 0):
			return string(out[:keep]), end, given || keep > 0, nil
		case c == ';' && quote == 0 && (i == 0 || strings.IndexByte(blanks, raw[i-1]) >= 0):
			return "", 0, false, errors.New("a ; begins no comment behind a path; write # before a comment, or put the whole path in quotes")
		default:
			out = append(out, c)
			if quote == 0 && strings.IndexByte(blanks, c) >= 0 {
				continue
			}
		}
		keep, end = len(out), i+1
	}
	if quote != 0 {
		return "", 0, false, fmt.Errorf("the quote %c is never closed; close it, or write \\%c for the character", quote, quote)
	}
	return string(out[:keep]), end, given || keep > 0, nil
}

// variableName returns the letters, digits and underscores that text starts with.
func variableName(text string) string {
	for i := range len(text) {
		c := text[i]
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return text[:i]
		}
	}
	return text
}

func lookup(name string, env func(string) (string, bool)) (string, error) {
	if name == "" {
		return "", errors.New("a $ without the name of a variable; write $NAME, or \\$ for the character")
	}
	content, ok := env(name)
	switch {
	case !ok:
		return "", fmt.Errorf("the environment has no variable %s; set it, or write \\$ for the character", name)
	case usable([]byte(content)) != nil:
		return "", fmt.Errorf("the variable %s holds something that is not a line of text", name)
	}
	return content, nil
}

// quoted returns value in quotes where they are needed, so that reading it gives value again.
func (r Row) quoted(value string) string {
	if r.Kind == Path {
		if value != "" && !strings.ContainsAny(value, blanks+`'"\$#;=`) {
			return value
		}
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(value) + `"`
	}
	switch {
	case strings.Contains(value, "'"):
		return `"` + value + `"`
	case value == "", strings.ContainsAny(value, blanks+`"#;=`):
		return "'" + value + "'"
	}
	return value
}
