package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// repeated warns of lines of pgagroal_databases.conf for a database and user that an earlier line names, too, because only
// the earlier line counts.
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

// common returns a name that both fields have, or all. more are further names of the second field.
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

// shadowed warns of lines of pgagroal_hba.conf that never apply, because an earlier line applies to the same clients and
// the first one counts.
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

// unencrypted warns of hostssl lines that don't keep clients from connecting in clear text: the line doesn't apply to such
// a client, and a later line lets it in. In C pgagroal the hostssl line refused it.
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

// include says whether n includes every database or user of other.
func (n Names) include(other Names) bool {
	missing := func(name string) bool { return !slices.Contains(n.List, name) }
	unknown := func(pattern string) bool { return !slices.Contains(n.Patterns, pattern) }
	return n.All || !other.All && (n.SameUser || !other.SameUser) &&
		!slices.ContainsFunc(other.List, missing) && !slices.ContainsFunc(other.Patterns, unknown)
}

// place returns the place of a rule for an operator who looks at file.
func (r HBARule) place(file string) string {
	if r.File == file {
		return fmt.Sprintf("line %d", r.Line)
	}
	return fmt.Sprintf("%s:%d", r.File, r.Line)
}

// addressIncludes says whether a, the address of a rule, includes b.
func addressIncludes(a, b string) bool {
	if a == All || a == b {
		return true
	}
	outer, err := netip.ParsePrefix(a)
	inner, err2 := netip.ParsePrefix(b)
	return err == nil && err2 == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
