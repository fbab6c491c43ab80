package leftovers

import (
	"slices"
	"strings"
)

// Settings are the parameters that a session has set. The caller applies the Changes of
// statements as the server completes them, and tells of errors and the ends of messages:
// then Statements is what gives a new backend, logged in like the old one, the settings
// that the client has when no transaction is open. The zero value is that of a new session.
//
// RESET returns to the login, so it removes a setting. A parameter with a dot in its name
// exists in PostgreSQL once anything has set it, even in a transaction that was rolled back,
// and is empty from then on rather than unknown: so it is set and reset on the new backend.
type Settings struct {
	now    []setting // what the present transaction has made of it; its elements never change
	kept   []setting // what the last transaction has left
	custom []setting // parameters with a dot in their name, each once
	points []savepoint
	size   int
}

type setting struct{ name, sql string }

// savepoint is what ROLLBACK TO restores.
type savepoint struct {
	name string
	now  []setting
}

const (
	mostSettings   = 256
	mostSavepoints = 256
	mostBytes      = 64 << 10
)

// Apply notes a change by a statement that has succeeded. A COMMIT of a block that has
// failed is no exception: Failed has undone what was set. Apply returns why the session
// can't move any more, "" if it can.
func (s *Settings) Apply(c Change) (why string) {
	switch c.Kind {
	case Set, SetLocal, Reset:
		return s.parameter(c)
	case ResetAll:
		s.now = slices.DeleteFunc(slices.Clone(s.now), func(e setting) bool {
			return e.name != "session_authorization" && e.name != "role"
		})
	case DiscardAll:
		s.now, s.kept, s.points = nil, nil, nil
	case Commit:
		s.end()
	case Rollback:
		s.now = s.kept
		s.end()
	case Savepoint:
		if s.points = append(s.points, savepoint{c.Name, s.now}); len(s.points) > mostSavepoints {
			return "too many savepoints"
		}
	case RollbackTo, Release:
		s.point(c)
	}
	return ""
}

// end ends the transaction with what is set now.
func (s *Settings) end() { s.kept, s.points = s.now, nil }

// point goes back to a savepoint or forgets it.
func (s *Settings) point(c Change) {
	for i := len(s.points) - 1; i >= 0; i-- {
		if s.points[i].name != c.Name {
			continue
		}
		if c.Kind == Release {
			s.points = s.points[:i]
		} else {
			s.now, s.points = s.points[i].now, s.points[:i+1]
		}
		return
	}
}

// Failed notes an error of a statement. In a block, ROLLBACK TO may still go back to a
// savepoint; everything else is gone.
func (s *Settings) Failed() { s.now = s.kept }

// Idle notes that the server is idle: a transaction without BEGIN has ended, too.
func (s *Settings) Idle() { s.end() }

// Pending reports whether the end of the open transaction decides about settings.
func (s *Settings) Pending() bool { return !slices.Equal(s.now, s.kept) }

// Statements returns the statements that make the settings, in their order.
func (s *Settings) Statements() []string {
	var all []string
	for _, e := range s.custom {
		if !slices.ContainsFunc(s.kept, func(k setting) bool { return k.name == e.name }) {
			all = append(all, e.sql, `RESET "`+strings.ReplaceAll(e.name, `"`, `""`)+`"`)
		}
	}
	for _, e := range s.kept {
		all = append(all, e.sql)
	}
	return all
}

// parameter notes that a parameter is set or reset.
func (s *Settings) parameter(c Change) (why string) {
	if strings.Contains(c.Name, ".") {
		if why := s.exists(c); why != "" {
			return why
		}
	}
	if c.Kind == SetLocal {
		return ""
	}
	e := setting{c.Name, c.SQL}
	e.name += part(c)
	s.now = slices.DeleteFunc(slices.Clone(s.now), func(old setting) bool { return replaces(e.name, old.name) })
	if c.Kind == Set || c.Name == "session_authorization" { // even its reset ends the role
		s.now = append(s.now, e)
	}
	return s.bounded(c)
}

// bounded reports that there are too many settings. What texts in other encodings say
// would change with another one at the time.
func (s *Settings) bounded(c Change) (why string) {
	size := 0
	for _, e := range s.now {
		size += len(e.sql)
		if c.Name == "client_encoding" && strings.IndexFunc(e.sql, func(r rune) bool { return r >= 0x80 }) >= 0 {
			return "client_encoding is set after a value that isn't ASCII"
		}
	}
	if len(s.now) > mostSettings || size > mostBytes {
		return "too many settings"
	}
	return ""
}

// exists notes that a parameter with a dot in its name is known to the server.
func (s *Settings) exists(c Change) (why string) {
	if slices.ContainsFunc(s.custom, func(e setting) bool { return e.name == c.Name }) {
		return ""
	}
	s.custom = append(s.custom, setting{c.Name, c.SQL})
	if s.size += len(c.SQL); len(s.custom) > mostSettings || s.size > mostBytes {
		return "too many settings"
	}
	return ""
}

// part returns which part of a parameter is set: DateStyle has two, and a value may set
// only one of them.
func part(c Change) string {
	if c.Name != "datestyle" || c.Kind == Reset {
		return ""
	}
	switch v := strings.ToLower(c.value); v {
	case "iso", "sql", "postgres", "postgresql":
		return ":style"
	case "ymd", "dmy", "mdy", "us", "european", "euro", "noneuropean", "noneuro":
		return ":order"
	}
	return ""
}

// replaces reports whether setting one name makes another setting void.
func replaces(name, old string) bool {
	whole, _, _ := strings.Cut(old, ":")
	return old == name || whole == name
}
