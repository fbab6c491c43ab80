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

// parser reads a main file. It collects all problems instead of stopping at the first.
type parser struct {
	file     string
	env      func(string) (string, bool)
	rows     []Row
	c        *Config
	section  string         // "" before the first one
	inServer bool           // the section is that of the last server in c.Servers
	sections map[string]int // line of each section
	keys     map[string]int // line of each key of a server section
	column   int            // where the parser is in its line; 0 for problems of the whole file
	warnings []Warning
	errs     []error
}

// parseMain reads the text of a main file.
func parseMain(file string, data []byte, env func(string) (string, bool)) (*Config, []Warning, []error) {
	p := &parser{file: file, env: env, rows: Keys(), c: New(), sections: map[string]int{}}
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
	if p.sections[mainSections[0]] == 0 {
		p.fail(0, "", "there is no section [pgagroal]; add it above the main keys")
	}
	p.defaults()
	p.adjust()
	return p.c, p.warnings, p.errs
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
	p.inServer = !slices.Contains(mainSections[:], name)
	if p.inServer {
		p.c.Servers = append(p.c.Servers, newServer(name, l.no))
		p.keys = map[string]int{}
	}
}

// assign reads one line with a key and stores its value.
func (p *parser) assign(l textLine) {
	key, raw := splitKey(l.text)
	if p.section == "" {
		p.fail(l.no, key, "the key stands before any section; move it below [pgagroal]")
		return
	}
	row, ok := p.find(key)
	if !ok {
		p.unknown(l.no, key)
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
	if !given || (text == "" && row.Kind != String && row.Kind != Path && row.Kind != File) {
		delete(seen, key) // a line without a value sets nothing
		text = row.Default
		if text == "" {
			return
		}
	}
	p.store(l.no, row, text)
}

// defaults applies the other defaults of failover = on to keys that the file doesn't set.
func (p *parser) defaults() {
	for _, r := range p.rows {
		if p.c.Failover && r.Failover != "" && p.c.lines[r.Name] == 0 {
			mustSet(r, r.Failover, r.main(p.c))
		}
	}
}

// seen returns the map from key to line for the current section.
func (p *parser) seen() map[string]int {
	if p.inServer {
		return p.keys
	}
	return p.c.lines
}

func (p *parser) find(key string) (Row, bool) {
	section := MainSection
	if p.inServer {
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
		return row.server(&p.c.Servers[len(p.c.Servers)-1])
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
	elsewhere := false
	for _, r := range p.rows {
		if (r.Section == ServerSection) == p.inServer {
			here = append(here, r.Name)
		} else if r.Name == key {
			elsewhere = true
		}
	}
	near := nearest(strings.ToLower(key), here)
	foreign := foreignKeys[strings.ToLower(key)]
	switch {
	case elsewhere && p.inServer:
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

// adjust replaces values that can't work, with a warning, as C pgagroal does.
func (p *parser) adjust() {
	c := p.c
	if c.HealthCheckUser == "" && c.lines["health_check"] == 0 {
		c.HealthCheck = false // it is on by default only, and there is no user to log in as
	}
	if c.AuthenticationTimeout == 0 {
		c.AuthenticationTimeout = 5 * time.Second
		p.warn(c.lines["authentication_timeout"], "authentication_timeout", "0 would let nobody in; 5s is used instead")
	}
	for _, k := range []struct {
		name string
		d    *time.Duration
	}{{"health_check_period", &c.HealthCheckPeriod}, {"health_check_timeout", &c.HealthCheckTimeout}} {
		if *k.d < time.Second && c.HealthCheck {
			c.HealthCheck = false
			p.warn(c.lines[k.name], k.name, "less than 1s; health_check is off")
		}
	}
	if c.lines["failover_probe_timeout"] == 0 && c.HealthCheckTimeout >= time.Second {
		c.FailoverProbeTimeout = c.HealthCheckTimeout // all that a file of C pgagroal can say
	}
}
