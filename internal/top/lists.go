package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

var listNames = [lists]string{"pools", "clients"}

// sortable are the columns by which each list can be sorted; the first is the one at the
// start.
var sortable = [lists][]string{
	{"active", "waiting", "idle", "database", "user"},
	{"time", "database", "user", "state"},
}

// servers draws the servers as a tree: each standby below the server that it follows.
func (m *model) servers() []string {
	d := m.last.details
	below, tops := map[string][]string{}, []string(nil)
	for _, name := range slices.Sorted(maps.Keys(d.Servers)) {
		if up := m.upstream(name); up != "" {
			below[up] = append(below[up], name)
		} else {
			tops = append(tops, name)
		}
	}
	slices.SortStableFunc(tops, func(a, b string) int { return cmp.Compare(rank(d.Servers[a]), rank(d.Servers[b])) })
	t := screen.Table{Columns: []screen.Column{
		{Title: "SERVER"}, {Title: "STATE"}, {Title: "HEALTH"}, {Title: "ACTIVE", Right: true}, {Title: "BEHIND", Right: true}, {Title: "RECEIVES"}, {Title: "ADDRESS", Spare: 1, Least: 21},
	}}
	seen := map[string]bool{}
	var add func(name, branch, indent string)
	add = func(name, branch, indent string) {
		if seen[name] { // two standbys that follow each other
			return
		}
		seen[name] = true
		t.Rows = append(t.Rows, screen.Row{Cells: m.server(name, branch)})
		for i, n := range below[name] {
			if i == len(below[name])-1 {
				add(n, indent+"└ ", indent+"  ")
			} else {
				add(n, indent+"├ ", indent+"│ ")
			}
		}
	}
	for _, name := range tops {
		add(name, "", "")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Servers)) {
		add(name, "", "") // what is left of a ring
	}
	return lines(m.screen.Table(t))
}

// server is the row of a server; branch is what ties it to the one above.
func (m *model) server(name, branch string) []screen.Cell {
	d := m.last.details
	s := d.Servers[name]
	state, colour := s.State, colourOf(s)
	if s.Qualifier != "" {
		state += " (" + s.Qualifier + ")"
	}
	active := 0
	for _, c := range d.Connections {
		if c.Server == name && c.State != "Free" {
			active++
		}
	}
	behind := ""
	if s.Behind != nil {
		behind = screen.Bytes(*s.Behind)
		if s.LagSeconds != nil && *s.LagSeconds > 0 && *s.Behind > 0 {
			behind += ", " + screen.Seconds(*s.LagSeconds)
		}
	}
	receives := ""
	if isStandby(s) {
		receives = cmp.Or(d.Standbys[name].WALReceiverStatus, "unknown")
	}
	return []screen.Cell{
		{Text: branch + name},
		{Text: state, Colour: colour},
		{Text: s.Health, Colour: colour},
		{Text: strconv.Itoa(active)},
		{Text: behind},
		{Text: receives},
		{Text: fmt.Sprintf("%s:%d", s.Host, s.Port)},
	}
}

// upstream is the server that a standby follows: the one whose address it names, or else
// the primary, because servers know one another by other addresses.
func (m *model) upstream(name string) string {
	d := m.last.details
	if !isStandby(d.Servers[name]) {
		return ""
	}
	follows, primary := d.Standbys[name], ""
	for _, other := range slices.Sorted(maps.Keys(d.Servers)) {
		o := d.Servers[other]
		if other != name && o.Host == follows.PrimaryHost && strconv.Itoa(o.Port) == follows.PrimaryPort {
			return other
		}
		if o.State == "Primary" {
			primary = other
		}
	}
	return primary
}

// rank is the order of servers that follow none.
func rank(s control.Server) int {
	if s.State == "Primary" {
		return 0
	}
	return 1
}

func colourOf(s control.Server) screen.Colour {
	switch {
	case s.State == "Failed" || s.Health == control.HealthDown:
		return screen.Bad
	case s.Qualifier != "" || !isStandby(s) && s.State != "Primary":
		return screen.Worry
	}
	return screen.Good
}

// rows are the lines of a list, its head first.
func (m *model) rows(list int) []string {
	t := m.pools()
	if list == listClients {
		t = m.clients()
	}
	t.Rows = slices.DeleteFunc(t.Rows, func(r screen.Row) bool { return !m.passes(r.Cells) })
	if len(t.Rows) == 0 {
		return []string{m.screen.Paint(screen.Faint, "no "+listNames[list])}
	}
	return lines(m.screen.Table(t))
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// waits reports whether a connection stands for a client that has none yet.
func waits(c control.Connection) bool { return c.Server == "" && c.State == "Not initialized" }

// pools counts the connections of each database and user.
func (m *model) pools() screen.Table {
	type key struct{ database, user string }
	type pool struct {
		key
		active, idle, waiting int
	}
	at := map[key]*pool{}
	for _, c := range m.last.details.Connections {
		k := key{c.Database, c.Username}
		p := at[k]
		if p == nil {
			p = &pool{key: k}
			at[k] = p
		}
		switch {
		case waits(c):
			p.waiting++
		case c.State == "Free":
			p.idle++
		default:
			p.active++
		}
	}
	list := slices.SortedFunc(maps.Values(at), func(a, b *pool) int {
		by := 0
		switch sortable[listPools][m.sorts[listPools]] {
		case "active":
			by = b.active - a.active
		case "waiting":
			by = b.waiting - a.waiting
		case "idle":
			by = b.idle - a.idle
		case "user":
			by = cmp.Compare(a.user, b.user)
		}
		return m.direction(cmp.Or(by, cmp.Compare(a.database, b.database), cmp.Compare(a.user, b.user)))
	})
	t := screen.Table{Columns: []screen.Column{
		{Title: "DATABASE"}, {Title: "USER"}, {Title: "ACTIVE", Right: true}, {Title: "IDLE", Right: true}, {Title: "WAITING", Right: true},
	}}
	for _, p := range list {
		waiting := screen.Cell{Text: strconv.Itoa(p.waiting)}
		if p.waiting > 0 {
			waiting.Colour = screen.Worry
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{{Text: p.database}, {Text: p.user}, {Text: strconv.Itoa(p.active)}, {Text: strconv.Itoa(p.idle)}, waiting}})
	}
	return t
}

func (m *model) direction(by int) int {
	if m.reverse {
		return -by
	}
	return by
}

// clients lists who has a connection and who waits for one, the longest first.
func (m *model) clients() screen.Table {
	list := slices.DeleteFunc(slices.Clone(m.last.details.Connections), func(c control.Connection) bool { return c.Client == "" })
	slices.SortStableFunc(list, func(a, b control.Connection) int {
		by := 0
		switch sortable[listClients][m.sorts[listClients]] {
		case "database":
			by = cmp.Compare(a.Database, b.Database)
		case "user":
			by = cmp.Compare(a.Username, b.Username)
		case "state":
			by = cmp.Compare(state(a), state(b))
		}
		return m.direction(cmp.Or(by, cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.Client, b.Client)))
	})
	t := screen.Table{Columns: []screen.Column{
		{Title: "ID", Right: true}, {Title: "STATE"}, {Title: "TIME", Right: true}, {Title: "DATABASE"}, {Title: "USER"}, {Title: "SERVER"}, {Title: "CLIENT", Least: 21, Spare: 1}, {Title: "APPLICATION", Spare: 2},
	}}
	for _, c := range list {
		colour := screen.Plain
		if waits(c) {
			colour = screen.Worry
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: id(c)}, {Text: state(c), Colour: colour}, {Text: since(m.last.at, c.Timestamp)}, {Text: c.Database}, {Text: c.Username}, {Text: c.Server}, {Text: c.Client}, {Text: c.AppName},
		}})
	}
	return t
}

// id is empty if the answer is of a pgagroal that doesn't tell it.
func id(c control.Connection) string {
	if c.ID == 0 {
		return ""
	}
	return strconv.FormatUint(c.ID, 10)
}

func state(c control.Connection) string {
	if waits(c) {
		return "waiting"
	}
	return strings.ToLower(c.State)
}

// since is how long ago a Unix time was, empty for -1.
func since(at time.Time, unix int64) string {
	d := at.Sub(time.Unix(unix, 0))
	switch {
	case unix < 0:
		return ""
	case d < time.Second:
		return "0s"
	}
	return screen.Duration(d.Truncate(time.Second))
}
