package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// repeated warns of lines of pgagroal_databases.conf that name a database and user which an earlier line names too: the
// earlier line counts.
func (p *limitParser) repeated() {
	for i, l := range p.limits {
		for _, before := range p.limits[:i] {
			database, ok := common(l.Database, before.Database, before.Aliases)
			if !ok {
				continue
			}
			if user, ok := common(l.User, before.User, nil); ok {
				p.warn(l.Line, "%s and %s are at line %d already, which counts for them; delete them here or there", database, user, before.Line)
				break
			}
		}
	}
}

// common returns a name that two fields have, or all; the second field has more names.
func common(a, b Names, more []string) (string, bool) {
	if a.All && b.All {
		return All, true
	}
	for _, name := range a.List {
		if slices.Contains(b.List, name) || slices.Contains(more, name) {
			return quotedName(name), true
		}
	}
	return "", false
}

// shadowed warns of lines of pgagroal_hba.conf that are for nobody, because the first line that fits a client counts.
func shadowed(rules []HBARule) []Warning {
	var warnings []Warning
	for i, r := range rules {
		for _, before := range rules[:i] {
			if before.Type != r.Type && (before.Type != "host" || r.Type == typeLocal) {
				continue
			}
			if !before.Database.include(r.Database) || !before.User.include(r.User) || !addressIncludes(before.Address, r.Address) {
				continue
			}
			warnings = append(warnings, Warning{File: r.File, Line: r.Line, Msg: fmt.Sprintf(
				"never used: whoever fits this line fits %s, which counts; write this line above it, or delete it", before.place(r.File),
			)})
			break
		}
	}
	return warnings
}

// unencrypted warns of hostssl lines that don't keep clients from clear text: such a client doesn't fit them, and goes on
// to a later line that lets it in. In C pgagroal the hostssl line refused it.
func unencrypted(rules []HBARule) []Warning {
	var warnings []Warning
	for i, r := range rules {
		if r.Type != typeHostSSL || r.Method == "reject" {
			continue
		}
		for _, later := range rules[i+1:] {
			if later.Type == typeHostSSL || later.Type == typeLocal || !later.Database.include(r.Database) ||
				!later.User.include(r.User) || !addressIncludes(later.Address, r.Address) {
				continue
			}
			if later.Method != "reject" {
				warnings = append(warnings, Warning{File: r.File, Line: r.Line, Msg: fmt.Sprintf(
					"without TLS whoever fits this line gets in by %s; if the line is to demand TLS, write a hostnossl line with reject below it", later.place(r.File),
				)})
			}
			break
		}
	}
	return warnings
}

// include says whether n names everything that other does.
func (n Names) include(other Names) bool {
	missing := func(name string) bool { return !slices.Contains(n.List, name) }
	unknown := func(pattern string) bool { return !slices.Contains(n.Patterns, pattern) }
	return n.All || !other.All && (n.SameUser || !other.SameUser) &&
		!slices.ContainsFunc(other.List, missing) && !slices.ContainsFunc(other.Patterns, unknown)
}

// place names the line of a rule to somebody who reads another line of file.
func (r HBARule) place(file string) string {
	if r.File == file {
		return fmt.Sprintf("line %d", r.Line)
	}
	return fmt.Sprintf("%s:%d", r.File, r.Line)
}

// addressIncludes compares two addresses of rules.
func addressIncludes(a, b string) bool {
	if a == All || a == b {
		return true
	}
	outer, err := netip.ParsePrefix(a)
	inner, err2 := netip.ParsePrefix(b)
	return err == nil && err2 == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
