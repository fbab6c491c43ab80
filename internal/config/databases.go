package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limitForm is the part of an error that says how to write a line.
const limitForm = "write DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]] [query_timeout=DURATION]"

// ParseLimits reads the text of pgagroal_databases.conf:
// DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]] [query_timeout=DURATION]. A MAX_SIZE of all means
// what earlier lines leave of maxConnections.
func ParseLimits(file string, data []byte, maxConnections int) ([]Limit, []Warning, []error) {
	p := limitParser{file: file, left: maxConnections}
	for l := range textLines(data) {
		if l.err != nil {
			p.errs = append(p.errs, inFile(file, l, l.fail()))
			continue
		}
		limit, fail := p.line(l)
		if fail != nil {
			p.errs = append(p.errs, inFile(file, l, fail))
			continue
		}
		p.limits = append(p.limits, limit)
	}
	p.names()
	p.repeated()
	return p.limits, p.warnings, p.errs
}

type limitParser struct {
	file     string
	left     int // connections that no earlier line has claimed
	limits   []Limit
	aliases  [][]word // the aliases of each limit, with their places in the file
	warnings []Warning
	errs     []error
}

func (p *limitParser) fail(line, column int, format string, args ...any) {
	p.errs = append(p.errs, &FileError{File: p.file, Line: line, Column: column, Msg: fmt.Sprintf(format, args...)})
}

func (p *limitParser) warn(line int, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{File: p.file, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func (p *limitParser) line(l textLine) (Limit, *FileError) {
	if l.text[0] == '[' {
		return Limit{}, &FileError{Msg: "this file has no sections; delete the line"}
	}
	f, fail := splitFields(l, ",=", plainSyntax)
	if fail != nil {
		return Limit{}, fail
	}
	limit := Limit{Line: l.no, QueryTimeout: Unset}
	if f, fail = limit.readOption(f); fail != nil {
		return Limit{}, fail
	}
	if len(f) < 3 || len(f) > 5 {
		return Limit{}, &FileError{Msg: fmt.Sprintf("%d fields; %s, and double quotes around a name with blanks", len(f), limitForm)}
	}
	if fail := limit.readNames(f[0], f[1]); fail != nil {
		return Limit{}, fail
	}
	for i, size := range []*int{&limit.MaxSize, &limit.InitialSize, &limit.MinSize} {
		if i+2 >= len(f) {
			break
		}
		all, fail := p.size(f[i+2], size)
		if fail != nil {
			return Limit{}, fail
		}
		limit.Rest = limit.Rest || i == 0 && all
	}
	if limit.MaxSize < 1 {
		return Limit{}, &FileError{Column: f[2].column(), Msg: fmt.Sprintf("MAX_SIZE is %d; it must be 1 or more, and all must leave one", limit.MaxSize)}
	}
	p.aliases = append(p.aliases, f[0].after)
	p.normalise(&limit)
	p.left = max(p.left-limit.MaxSize, 0)
	return limit, nil
}

// readOption reads the option behind the sizes, if there is one, and returns the fields before it.
func (l *Limit) readOption(f []field) ([]field, *FileError) {
	if len(f) < 4 || !f[len(f)-1].equals {
		return f, nil
	}
	option := f[len(f)-1]
	if name, _ := (field{words: option.words}).sole(); name != "query_timeout" || len(option.after) != 1 {
		return nil, option.fail("the option %s is unknown; write query_timeout=DURATION", name)
	}
	v, err := Row{Kind: Duration}.parse(option.after[0].text)
	if err != nil {
		return nil, &FileError{Column: option.after[0].column, Msg: "query_timeout: " + err.Error()}
	}
	l.QueryTimeout = v.(time.Duration)
	return f[:len(f)-1], nil
}

// readNames reads the databases with their aliases, and the users.
func (l *Limit) readNames(databases, users field) (fail *FileError) {
	if l.Database, fail = limitDatabase.read(databases.words); fail != nil {
		return fail
	}
	if users.equals {
		return &FileError{Column: users.after[0].column, Msg: "a user has no alias; " + limitForm}
	}
	if l.User, fail = limitUser.read(users.words); fail != nil || !databases.equals {
		return fail
	}
	at := databases.after[0].column
	aliases, fail := limitDatabase.read(databases.after)
	switch {
	case fail != nil:
		return fail
	case l.Database.All:
		return &FileError{Column: at, Msg: "all can't have aliases; name the database"}
	case len(l.Database.List) > 1:
		return &FileError{Column: at, Msg: "a list of databases can't have aliases; write a line for the database that has them"}
	case aliases.All:
		return &FileError{Column: at, Msg: "all can't be an alias; choose another"}
	}
	l.Aliases = aliases.List
	return nil
}

// size reads a size. It reports whether that is all.
func (p *limitParser) size(f field, size *int) (all bool, fail *FileError) {
	text, ok := f.sole()
	if ok && strings.EqualFold(text, All) {
		*size = p.left
		return true, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if !ok || err != nil {
		return false, &FileError{Column: f.column(), Msg: "the size " + text + " is neither a number from 0 nor all; write digits alone"}
	}
	*size = int(n)
	return false, nil
}

// refitted returns limits whose sizes of all are what maxConnections leaves.
func refitted(limits []Limit, maxConnections int) []Limit {
	limits, left := slices.Clone(limits), maxConnections
	for i := range limits {
		l := &limits[i]
		if l.Rest {
			l.MaxSize = max(left, 1) // 0 would be no limit that a line can have; the total bounds it all the same
			l.InitialSize, l.MinSize = min(l.InitialSize, l.MaxSize), min(l.MinSize, l.MaxSize)
		}
		left = max(left-l.MaxSize, 0)
	}
	return limits
}

// normalise moves sizes of a line that contradict each other to the nearest possible ones, with a warning.
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
	if _, _, ok := l.Ahead(); !ok && (l.InitialSize > 0 || l.MinSize > 0) {
		p.warn(l.Line, "connections can be opened ahead for one database and one user alone; INITIAL_SIZE and MIN_SIZE are not used")
	}
}

// Ahead returns the database and the user for which connections are opened ahead of clients. ok is false if the line has
// neither INITIAL_SIZE nor MIN_SIZE, or is for several databases or users.
func (l Limit) Ahead() (database, user string, ok bool) {
	one := func(n Names) bool { return !n.All && len(n.List) == 1 }
	if l.InitialSize+l.MinSize == 0 || !one(l.Database) || !one(l.User) {
		return "", "", false
	}
	return l.Database.List[0], l.User.List[0], true
}

// names refuses an alias of two databases, and an alias that is also the name of a database.
func (p *limitParser) names() {
	databases := map[string]bool{}
	for _, l := range p.limits {
		for _, name := range l.Database.List {
			databases[name] = true
		}
	}
	owner := map[string]int{}
	for i, l := range p.limits {
		for j, a := range l.Aliases {
			column := p.aliases[i][j].column
			switch {
			case databases[a]:
				p.fail(l.Line, column, "the alias %s is the name of a database here; choose another", a)
			case owner[a] != 0:
				p.fail(l.Line, column, "the alias %s is there already, at line %d; choose another", a, owner[a])
			default:
				owner[a] = l.Line
			}
		}
	}
}

// FindLimit returns the index of the rule for a user and a database or its alias, or -1 if only
// max_connections limits them. The first rule that names both wins. Otherwise a later rule wins over
// an earlier one if it names the user or the database where the earlier one says all.
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

// SameNames says whether two rules are for the same databases, aliases and users.
func (l Limit) SameNames(o Limit) bool {
	return reflect.DeepEqual(l.Database, o.Database) && slices.Equal(l.Aliases, o.Aliases) && reflect.DeepEqual(l.User, o.User)
}

// preferredTo says whether l wins over kept, an earlier rule. Both cover the same database and user.
func (l Limit) preferredTo(kept Limit) bool {
	return (kept.User.All && !l.User.All) || (kept.Database.All && !l.Database.All)
}

func (l Limit) covers(database, user string) bool {
	return l.User.covers(user) && (l.Database.covers(database) || slices.Contains(l.Aliases, database))
}

// RealDatabase returns the database that name is an alias of, or name itself.
func RealDatabase(limits []Limit, name string) string {
	for _, l := range limits {
		if slices.Contains(l.Aliases, name) {
			return l.Database.List[0]
		}
	}
	return name
}
