package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// mainSections are the sections of the main keys; only the first is required.
var mainSections = [...]string{"pgagroal", "health_check", "prometheus"}

// removedKeys are keys of older versions of pgagroal. A file that still has them loads.
var removedKeys = [...]string{"libev", "buffer_size", "non_blocking"}

// fileKind says which keys a file of keys may set.
type fileKind int

const (
	mainFile     fileKind = iota
	includedFile          // of include_dir
	autoFile              // written by conf set --persist
)

// parser reads the files of keys, one after the other: a later file adds to an earlier one and overrides it. It collects
// all problems instead of stopping at the first.
type parser struct {
	env      func(string) (string, bool)
	rows     []Row
	c        *Config
	warnings []Warning
	errs     []error

	// Of the file that is being read:
	file     string
	kind     fileKind
	section  string         // "" before the first one
	server   int            // its index in c.Servers; notServer for a section of main keys, unknownServer for one that is skipped
	sections map[string]int // line of each section
	mainKeys map[string]int // line of each main key
	keys     map[string]int // line of each key of the section of a server
	column   int            // where the parser is in its line; 0 for problems of the whole file
	without  *string        // full name of the key that doesn't count, empty for all; nil for none
}

const (
	notServer     = -1
	unknownServer = -2
)

func newParser(c *Config, env func(string) (string, bool)) *parser {
	return &parser{env: env, rows: Keys(), c: c}
}

// parseMain reads the text of a main file that stands alone.
func parseMain(file string, data []byte, env func(string) (string, bool)) (*Config, []Warning, []error) {
	p := newParser(New(), env)
	p.c.Paths.Config = file
	p.read(file, data, mainFile)
	p.warnings = append(p.warnings, p.c.settle()...)
	return p.c, p.warnings, p.errs
}

// read reads the text of one file.
func (p *parser) read(file string, data []byte, kind fileKind) {
	p.file, p.kind, p.section, p.server = file, kind, "", notServer
	p.sections, p.mainKeys = map[string]int{}, map[string]int{}
	for l := range textLines(data) {
		p.column = l.indent + 1
		switch {
		case l.err != nil:
			p.errs = append(p.errs, inFile(file, l, l.fail()))
		case l.text[0] == '[':
			p.openSection(l)
		default:
			p.assign(l)
		}
	}
	p.column = 0
	if kind == mainFile && p.sections[mainSections[0]] == 0 {
		p.fail(0, "", "there is no section [pgagroal]; add it above the main keys")
	}
}

func (p *parser) fail(line int, key, format string, args ...any) {
	p.errs = append(p.errs, &FileError{File: p.file, Line: line, Column: p.column, Key: key, Msg: fmt.Sprintf(format, args...)})
}

func (p *parser) warn(line int, key, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{p.file, line, key, fmt.Sprintf(format, args...)})
}

func (p *parser) openSection(l textLine) {
	name, rest, ok := strings.Cut(l.text[1:], "]")
	name, rest = strings.Trim(name, blanks), strings.TrimLeft(rest, blanks)
	switch {
	case !ok:
		p.fail(l.no, "", "a section without its closing bracket; write [name]")
		return
	case name == "" || len(name) > 127:
		p.fail(l.no, "", "a section needs a name of 1 to 127 bytes")
		return
	case strings.ContainsAny(name[:1], `'"`):
		p.fail(l.no, "", "quotes mean nothing in the name of a section; delete them")
		return
	case rest != "" && rest[0] != '#' && rest[0] != ';':
		p.column = l.column(len(l.text) - len(rest))
		p.fail(l.no, "", "text behind the section, which would be lost: %q; write it on the next line", rest)
		return
	case p.sections[name] != 0:
		p.fail(l.no, "", "the section [%s] is there already, at line %d; join or rename them", name, p.sections[name])
	default:
		p.sections[name] = l.no
	}
	p.section = name
	p.server = p.findServer(name, l.no)
	p.keys = map[string]int{}
}

// findServer returns the index of the server of a section, or why it isn't one. A section that is new adds a server.
func (p *parser) findServer(name string, line int) int {
	if slices.Contains(mainSections[:], name) {
		return notServer
	}
	i := slices.IndexFunc(p.c.Servers, func(s Server) bool { return s.Name == name })
	switch {
	case i >= 0:
		return i
	case p.kind == autoFile:
		p.warn(line, "", "there is no server [%s] any more; its keys here are ignored", name)
		return unknownServer
	}
	p.c.Servers = append(p.c.Servers, newServer(name, p.file, line))
	return len(p.c.Servers) - 1
}

// assign reads one line with a key and stores its value.
func (p *parser) assign(l textLine) {
	key, raw := splitKey(l.text)
	if p.section == "" {
		p.fail(l.no, key, "the key stands before any section; move it below [pgagroal]")
		return
	}
	if p.server == unknownServer {
		return
	}
	row, ok := p.find(key)
	if !ok {
		p.unknown(l.no, key)
		return
	}
	if why := p.refused(row); why != "" {
		p.fail(l.no, key, "%s", why)
		return
	}
	if p.without != nil && (*p.without == "" || *p.without == p.fullName(row)) {
		return
	}
	p.column = l.column(len(l.text) - len(raw))
	text, given, err := p.value(row, raw)
	if err != nil {
		p.fail(l.no, key, "%v", err)
		return
	}
	seen := p.seen()
	if before := seen[key]; before != 0 {
		p.warn(l.no, key, "set before at line %d; this line counts", before)
	}
	seen[key] = l.no
	origin := Origin{File: p.file, Line: l.no}
	if !given || (text == "" && row.Kind != String && row.Kind != Path && row.Kind != File) {
		delete(seen, key) // a line without a value sets nothing
		origin = Origin{}
		text = row.Default
	}
	p.c.setOrigin(p.fullName(row), origin)
	if origin != (Origin{}) || text != "" {
		p.store(l.no, row, text)
	}
}

func (p *parser) fullName(row Row) string {
	if p.server >= 0 {
		return fullName(p.c.Servers[p.server].Name, row.Name)
	}
	return row.Name
}

// refused returns why the file may not set a key, or "".
func (p *parser) refused(row Row) string {
	switch why := row.FilesOnly(); {
	case row.Name == "include_dir" && p.kind != mainFile:
		return "only the main file can name a directory of further files; move the line there"
	case p.kind == autoFile && why != "":
		return why + "; delete the line, and set the key in " + p.c.Paths.Config
	}
	return ""
}

// seen returns the map from key to line for the current section.
func (p *parser) seen() map[string]int {
	if p.server >= 0 {
		return p.keys
	}
	return p.mainKeys
}

func (p *parser) find(key string) (Row, bool) {
	section := MainSection
	if p.server >= 0 {
		section = ServerSection
	}
	i := slices.IndexFunc(p.rows, func(r Row) bool { return r.Name == key && r.Section == section })
	if i < 0 {
		return Row{}, false
	}
	return p.rows[i], true
}

func (p *parser) value(row Row, raw string) (string, bool, error) {
	if (row.Kind == Path || row.Kind == File) && strings.HasPrefix(raw, "~") {
		return "", false, errors.New("a ~ is not replaced here; write the whole path")
	}
	if row.Kind == Path {
		return pathValue(raw, p.env)
	}
	return plainValue(raw)
}

// store parses text and writes it to the field of row.
func (p *parser) store(line int, row Row, text string) {
	v, err := row.parse(text)
	if err != nil && !p.clamped(line, row, v, err) {
		p.fail(line, row.Name, "%v", err)
		return
	}
	store(p.field(row), v)
	if s, ok := v.(string); ok && row.Name == "log_line_prefix" {
		if what := refusePrefix(s); what != "" {
			p.warn(line, row.Name, "%s", what)
		}
	}
	if row.Later && text != row.Default && !sameAsDefault(row, v) {
		p.warn(line, row.Name, "not yet in effect in this version; the value is kept and ignored")
	}
}

// clamped says whether the row replaces a value outside its bounds by the bound. If so, it warns.
func (p *parser) clamped(line int, row Row, v any, err error) bool {
	if !errors.Is(err, errRange) {
		return false
	}
	low := v == any(row.Min) || v == any(time.Duration(row.Min)*time.Millisecond)
	if (low && !row.ClampMin) || (!low && !row.ClampMax) {
		return false
	}
	p.warn(line, row.Name, "%v, which is used instead", err)
	return true
}

func (p *parser) field(row Row) any {
	if row.Section == ServerSection {
		return row.server(&p.c.Servers[p.server])
	}
	return row.main(p.c)
}

func sameAsDefault(row Row, v any) bool {
	d, err := row.parse(row.Default)
	return err == nil && d == v
}

// unknown reports a key that its section doesn't know.
func (p *parser) unknown(line int, key string) {
	if slices.Contains(removedKeys[:], key) {
		p.warn(line, key, "was removed from pgagroal and is ignored; delete the line")
		return
	}
	var here []string
	elsewhere, inServer := false, p.server >= 0
	for _, r := range p.rows {
		if (r.Section == ServerSection) == inServer {
			here = append(here, r.Name)
		} else if r.Name == key {
			elsewhere = true
		}
	}
	near := nearest(strings.ToLower(key), here)
	foreign := foreignKeys[strings.ToLower(key)]
	switch {
	case elsewhere && inServer:
		p.fail(line, key, "the key is not one of a server; move it to [pgagroal]")
	case elsewhere:
		p.fail(line, key, "the key belongs in the section of a server; move it there")
	case foreign != "":
		p.fail(line, key, "a key of PostgreSQL or of another pooler, unknown here; %s", foreign)
	case near != "":
		p.fail(line, key, "unknown key; did you mean %s?", near)
	default:
		p.fail(line, key, "unknown key; delete the line")
	}
}
