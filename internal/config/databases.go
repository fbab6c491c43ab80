package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// separators are the = and commas of a line, with the blanks that may stand around them.
var (
	separators = regexp.MustCompile(`[ \t]*([=,])[ \t]*`)
	comment    = regexp.MustCompile(`[ \t][#;].*`)
)

// ParseLimits reads the text of pgagroal_databases.conf:
// DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]]. The size all is what
// maxConnections leaves after the MAX_SIZE of the lines before.
func ParseLimits(file string, data []byte, maxConnections int) ([]Limit, []Warning, []error) {
	p := limitParser{file: file, left: maxConnections}
	for l := range textLines(data) {
		if l.err != nil {
			p.fail(l.no, "%v", l.err)
			continue
		}
		if limit, ok := p.line(l); ok {
			p.limits = append(p.limits, limit)
		}
	}
	p.names()
	return p.limits, p.warnings, p.errs
}

type limitParser struct {
	file     string
	left     int // connections that no line has claimed yet
	limits   []Limit
	warnings []Warning
	errs     []error
}

func (p *limitParser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, &FileError{File: p.file, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func (p *limitParser) warn(line int, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{File: p.file, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func (p *limitParser) line(l textLine) (Limit, bool) {
	text := comment.ReplaceAllString(l.text, "")
	f := strings.Fields(separators.ReplaceAllString(text, "$1"))
	if len(f) < 3 || len(f) > 5 {
		p.fail(l.no, "%d fields; write DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]]", len(f))
		return Limit{}, false
	}
	database, aliases, named := strings.Cut(f[0], "=")
	limit := Limit{Database: foldAll(database), User: foldAll(f[1]), Line: l.no}
	if named {
		limit.Aliases = strings.Split(aliases, ",")
	}
	if limit.Database == "" || slices.Contains(limit.Aliases, "") {
		p.fail(l.no, "an empty name; write DATABASE=alias,alias")
		return Limit{}, false
	}
	for i, size := range []*int{&limit.MaxSize, &limit.InitialSize, &limit.MinSize} {
		if i+2 >= len(f) {
			break
		}
		if !p.size(l.no, f[i+2], size) {
			return Limit{}, false
		}
	}
	if limit.MaxSize < 1 {
		p.fail(l.no, "MAX_SIZE is %d; it must be 1 or more, and all must leave one", limit.MaxSize)
		return Limit{}, false
	}
	p.normalise(&limit)
	p.left = max(p.left-limit.MaxSize, 0)
	return limit, true
}

func (p *limitParser) size(line int, text string, size *int) bool {
	if strings.EqualFold(text, All) {
		*size = p.left
		return true
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		p.fail(line, "the size %s is neither a number from 0 nor all", text)
		return false
	}
	*size = int(n)
	return true
}

// normalise brings the three sizes of a line into order.
func (p *limitParser) normalise(l *Limit) {
	if l.InitialSize > l.MaxSize {
		p.warn(l.Line, "INITIAL_SIZE %d is above MAX_SIZE; %d is used", l.InitialSize, l.MaxSize)
		l.InitialSize = l.MaxSize
	}
	if l.MinSize > l.MaxSize {
		p.warn(l.Line, "MIN_SIZE %d is above MAX_SIZE; %d is used", l.MinSize, l.MaxSize)
		l.MinSize = l.MaxSize
	}
	if l.InitialSize != 0 && l.InitialSize < l.MinSize {
		p.warn(l.Line, "INITIAL_SIZE %d is below MIN_SIZE; %d is used", l.InitialSize, l.MinSize)
		l.InitialSize = l.MinSize
	}
	if l.Database == All && (l.InitialSize > 0 || l.MinSize > 0) {
		p.warn(l.Line, "connections can't be opened ahead for all databases; INITIAL_SIZE and MIN_SIZE are not used")
	}
}

// names refuses an alias that stands for two databases or hides one.
func (p *limitParser) names() {
	databases := map[string]bool{All: true}
	for _, l := range p.limits {
		databases[l.Database] = true
	}
	owner := map[string]int{}
	for _, l := range p.limits {
		if l.Database == All && len(l.Aliases) > 0 {
			p.fail(l.Line, "all can't have aliases; name the database")
		}
		for _, a := range l.Aliases {
			switch {
			case databases[foldAll(a)]:
				p.fail(l.Line, "the alias %s is the name of a database here; choose another", a)
			case owner[a] != 0:
				p.fail(l.Line, "the alias %s is there already, at line %d; choose another", a, owner[a])
			default:
				owner[a] = l.Line
			}
		}
	}
}

// FindLimit returns the index of the rule for a user and a database (or its alias), or -1: then
// only max_connections bounds them. The first exact rule wins; among the others a later line wins
// over an earlier one where it names the user or the database and the earlier one says all.
func FindLimit(limits []Limit, database, user string) int {
	best := -1
	for i, l := range limits {
		if !l.covers(database, user) {
			continue
		}
		if best < 0 || l.preferredTo(limits[best]) {
			best = i
		}
	}
	return best
}

// preferredTo says whether l, which covers the same pair, replaces the rule kept so far; it never
// replaces an exact one.
func (l Limit) preferredTo(kept Limit) bool {
	return (kept.User == All && l.User != All) || (kept.Database == All && l.Database != All)
}

func (l Limit) covers(database, user string) bool {
	return (l.User == All || l.User == user) &&
		(l.Database == All || l.Database == database || slices.Contains(l.Aliases, database))
}

// RealDatabase returns the database that name is an alias of, or name itself.
func RealDatabase(limits []Limit, name string) string {
	for _, l := range limits {
		if slices.Contains(l.Aliases, name) {
			return l.Database
		}
	}
	return name
}
