package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
)

// MainText is the text of a main file that is being edited. Comments, the order of lines and their blanks stay.
type MainText struct {
	file  string // for messages
	lines []string
}

// NewMainText returns the text of the file with that path. Nothing is read.
func NewMainText(path string, data []byte) *MainText {
	m := &MainText{file: path}
	for line := range bytes.Lines(data) {
		m.lines = append(m.lines, string(line))
	}
	return m
}

// Bytes returns the text as it is now.
func (m *MainText) Bytes() []byte { return []byte(strings.Join(m.lines, "")) }

// mainLine is a line with a section's header or, if key isn't empty, with a key.
type mainLine struct {
	no       int // from 1
	section  string
	key, raw string // raw is the text behind the = as it stands there
}

func (m *MainText) walk() iter.Seq[mainLine] {
	return func(yield func(mainLine) bool) {
		section := ""
		for l := range textLines(m.Bytes()) {
			at := mainLine{no: l.no}
			switch {
			case l.err != nil:
				continue
			case l.text[0] == '[':
				name, _, _ := strings.Cut(l.text[1:], "]")
				section = strings.Trim(name, blanks)
			default:
				at.key, at.raw = splitKey(l.text)
			}
			at.section = section
			if !yield(at) {
				return
			}
		}
	}
}

// find returns the line of a section's header, or of a key, which is the last one if the key is there more than once.
func (m *MainText) find(section, key string) (found mainLine, ok bool) {
	for l := range m.walk() {
		if l.section == section && l.key == key {
			found, ok = l, true
		}
	}
	return found, ok
}

// Sections returns the names of the sections in their order.
func (m *MainText) Sections() []string {
	var names []string
	for l := range m.walk() {
		if l.key == "" && !slices.Contains(names, l.section) {
			names = append(names, l.section)
		}
	}
	return names
}

// KeysOf returns the keys of a section in their order. ok is false if there is no such section.
func (m *MainText) KeysOf(section string) (keys []string, ok bool) {
	if _, ok := m.find(section, ""); !ok {
		return nil, false
	}
	for l := range m.walk() {
		if l.section == section && l.key != "" && !slices.Contains(keys, l.key) {
			keys = append(keys, l.key)
		}
	}
	return keys, true
}

// Get returns the value of a key as it is written, without quotes. Variables of the environment stay as $NAME.
func (m *MainText) Get(section, key string) (string, error) {
	l, ok := m.find(section, key)
	if !ok {
		return "", m.missing(section, key)
	}
	value, _, _, err := scanValue(rowOf(section, key), l.raw)
	if err != nil {
		return "", &FileError{File: m.file, Line: l.no, Key: key, Msg: err.Error()}
	}
	return value, nil
}

func (m *MainText) missing(section, key string) error {
	row := rowOf(section, key)
	_, there := m.find(section, "")
	switch {
	case key == "" || !there:
		return fmt.Errorf("%s has no section [%s]; it has %s", m.file, section, strings.Join(m.Sections(), ", "))
	case row.Name == "":
		return fmt.Errorf("%s is not set in [%s] of %s, and there is no such key", key, section, m.file)
	case row.Default == "":
		return fmt.Errorf("%s is not set in [%s] of %s, and has no default", key, section, m.file)
	}
	return fmt.Errorf("%s is not set in [%s] of %s; its default is %s", key, section, m.file, row.Default)
}

// rowOf returns the row of a key; its name is empty if there is no such key.
func rowOf(section, key string) Row {
	kind := ServerSection
	if slices.Contains(mainSections[:], section) {
		kind = MainSection
	}
	rows := Keys()
	if i := slices.IndexFunc(rows, func(r Row) bool { return r.Section == kind && r.Name == key }); i >= 0 {
		return rows[i]
	}
	return Row{Section: kind}
}

func scanValue(row Row, raw string) (value string, end int, given bool, err error) {
	if row.Kind == Path {
		return scanPath(raw, sameVariable)
	}
	return scanPlain(raw)
}

// sameVariable stands for the environment of pgagroal, which the program that edits doesn't know.
func sameVariable(name string) (string, bool) { return "$" + name, true }

// Set gives a key a value, with a comment behind it unless that is empty. It adds the key, and the section, if they are
// missing. On an error, which names the line that the parser refuses, the text stays as it was.
func (m *MainText) Set(section, key, value, comment string) error {
	written, err := writtenValue(rowOf(section, key), value)
	if err == nil {
		err = usable([]byte(section + key + comment))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	next := slices.Clone(m.lines)
	l, ok := m.find(section, key)
	if ok {
		next[l.no-1] = replaced(next[l.no-1], l, written, comment)
	} else {
		next, l.no = m.inserted(section, key, key+" = "+written+behind(comment))
	}
	return m.accept(next, section, key, l.no)
}

// writtenValue returns a value as it is written in the file. A path with a $ stays as it is, because it names a variable.
func writtenValue(row Row, value string) (string, error) {
	switch {
	case usable([]byte(value)) != nil:
		return "", usable([]byte(value))
	case value == "" && row.Kind != String && row.Kind != Path && row.Kind != File:
		return "", errors.New("the value is empty; delete the key instead")
	case row.Kind == Path && !strings.ContainsAny(value, blanks+`'"\#;=`):
		return cmp.Or(value, "''"), nil
	case row.Kind != Path && strings.Contains(value, "'") && strings.Contains(value, `"`):
		return "", errors.New("a value can't hold both kinds of quotes")
	}
	return row.quoted(value), nil
}

func behind(comment string) string {
	if comment = strings.TrimLeft(comment, "#; \t"); comment == "" {
		return ""
	}
	return " # " + comment
}

// replaced returns a line with another value. Its comment stays unless there is a new one.
func replaced(line string, l mainLine, written, comment string) string {
	text := strings.TrimRight(strings.TrimRight(line, "\r\n"), blanks)
	start := len(text) - len(l.raw)
	_, end, _, err := scanValue(rowOf(l.section, l.key), l.raw)
	if err != nil { // where the value ends is unclear
		end = len(l.raw)
	}
	rest := l.raw[end:]
	if more := behind(comment); more != "" {
		rest = more
	}
	head := text[:start]
	if !strings.Contains(head, "=") {
		head = strings.TrimRight(head, blanks) + " = "
	} else if head[start-1] == '=' && l.raw == "" {
		head += " "
	}
	return head + written + rest + lineEnd(line)
}

func lineEnd(line string) string { return line[len(strings.TrimRight(line, "\r\n")):] }

// inserted returns the lines with another one in a section, and its number. It stands below a comment that shows the key,
// otherwise at the end of the section.
func (m *MainText) inserted(section, key, text string) (lines []string, no int) {
	lines = slices.Clone(m.lines)
	last, ok := m.find(section, "")
	if !ok {
		lines = ended(lines)
		if len(lines) > 0 {
			lines = append(lines, "\n")
		}
		lines = append(lines, "["+section+"]\n", text+"\n")
		return lines, len(lines)
	}
	from, until, at := last.no, len(lines), last.no
	for l := range m.walk() {
		switch {
		case l.section == section:
			at = l.no
		case l.key == "" && l.no > from:
			until = min(until, l.no-1)
		}
	}
	shown := regexp.MustCompile(`^[ \t]*[#;][ \t]*` + regexp.QuoteMeta(key) + `[ \t]*=`)
	for i := until - 1; i >= from; i-- {
		if shown.MatchString(lines[i]) {
			at = i + 1
			break
		}
	}
	if at == len(lines) {
		lines = ended(lines)
	}
	return slices.Insert(lines, at, text+lineEnd(lines[at-1])), at + 1
}

// ended returns lines of which the last one has a line end, too.
func ended(lines []string) []string {
	if n := len(lines); n > 0 && lineEnd(lines[n-1]) == "" {
		lines[n-1] += "\n"
	}
	return lines
}

// Delete takes a key out of a section, or the whole section if key is empty.
func (m *MainText) Delete(section, key string) error {
	if _, ok := m.find(section, key); !ok {
		return m.missing(section, key)
	}
	next := slices.Clone(m.lines)
	if key == "" {
		return m.accept(m.withoutSection(section), section, "", 0)
	}
	var at []int
	for l := range m.walk() {
		if l.section == section && l.key == key {
			at = append(at, l.no-1)
		}
	}
	for _, i := range slices.Backward(at) {
		next = slices.Delete(next, i, i+1)
	}
	return m.accept(next, section, "", 0)
}

// withoutSection returns the lines without a section. A comment right above the next section's header belongs to that.
func (m *MainText) withoutSection(section string) []string {
	var next []string
	within, from := false, 0
	for l := range m.walk() {
		if l.key != "" {
			continue
		}
		start := l.no - 1
		for start > from && strings.IndexAny(strings.TrimLeft(m.lines[start-1], blanks), "#;") == 0 {
			start--
		}
		if !within {
			next = append(next, m.lines[from:start]...)
		}
		from, within = start, l.section == section
	}
	if !within {
		next = append(next, m.lines[from:]...)
	}
	return next
}

// accept makes next the text, unless the parser refuses a line that was good before. key isn't empty if it was set at line.
func (m *MainText) accept(next []string, section, key string, line int) error {
	_, before := m.parse(m.lines)
	c, after := m.parse(next)
	for _, err := range after {
		if fe, ok := errors.AsType[*FileError](err); ok && line > 0 && fe.Line == line {
			return err
		}
	}
	if len(after) > len(before) {
		return errors.Join(after...)
	}
	if key != "" {
		full := key
		if !slices.Contains(mainSections[:], section) {
			full = fullName(section, key)
		}
		if o := c.Origin(full); o.Line > line {
			o.Line -= len(next) - len(m.lines)
			return fmt.Errorf("%v sets %s, too, and the later line counts; change it there", o, key)
		}
	}
	m.lines = next
	return nil
}

func (m *MainText) parse(lines []string) (*Config, []error) {
	c, _, errs := parseMain(m.file, []byte(strings.Join(lines, "")), sameVariable)
	return c, errs
}
