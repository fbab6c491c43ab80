package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func filesView(p *page, _ *answer, r *control.ConfListResponse) {
	list := []screen.Pair{
		{Name: "main", Text: r.Main},
		{Name: "hba", Text: r.HBA},
		{Name: "limits", Text: r.Limit},
		{Name: "users", Text: r.Users},
		{Name: "frontend users", Text: r.FrontendUsers},
		{Name: "admins", Text: r.Admin},
		{Name: "superuser", Text: r.Superuser},
	}
	for i := range list {
		if list[i].Text == "" {
			list[i].Text, list[i].Colour = "not used", screen.Faint
		}
	}
	for _, path := range r.Included {
		list = append(list, screen.Pair{Name: "include_dir", Text: path})
	}
	if r.Auto != "" {
		list = append(list, screen.Pair{Name: "conf set", Text: r.Auto})
	}
	p.pairs("", list...)
}

// setView is the page of conf set.
func setView(p *page, _ *answer, r *control.SetResponse) {
	was, is, status := r.OldValue, r.NewValue, "in effect until the next reload or restart"
	switch {
	case r.RestartRequired && r.Persisted != "":
		was, is, status = r.CurrentValue, r.RequestedValue, "in effect after a restart, which reads it in "+r.Persisted
	case r.RestartRequired:
		was, is, status = r.CurrentValue, r.RequestedValue, "not in effect: it needs a restart, which reads the files"
	case r.Persisted != "":
		status = "in effect, and kept in " + r.Persisted
	}
	p.pairs("",
		screen.Pair{Name: "Parameter", Text: r.ConfigKey}, screen.Pair{Name: "Old value", Text: pointed(was)},
		screen.Pair{Name: "New value", Text: pointed(is)}, screen.Pair{Name: "Status", Text: status})
	switch {
	case r.RestartRequired && r.Persisted == "" && is != nil:
		p.suggest("pgagroal-cli conf set "+shellWord(r.ConfigKey)+" "+shellWord(*is)+" --persist", "keep the value for the next start")
	case r.Persisted != "":
		p.suggest("pgagroal-cli conf reset "+shellWord(r.ConfigKey), "take it back")
	}
}

// pointed shows a value that may be absent.
func pointed(s *string) string {
	if s == nil {
		return ""
	}
	return orEmptyText(*s)
}

// aliasView is the page of conf alias: the databases file as a table.
func aliasView(p *page, _ *answer, r *control.AliasResponse) {
	t := screen.Table{Columns: []screen.Column{
		{Title: "# DATABASE=ALIASES"}, {Title: "USER"}, {Title: "MAX", Right: true}, {Title: "INIT", Right: true}, {Title: "MIN", Right: true},
	}}
	for _, name := range slices.Sorted(maps.Keys(r.Databases)) {
		d := r.Databases[name]
		name = strings.TrimSuffix(name, " "+d.Username)
		if len(d.Aliases) > 0 {
			name += "=" + strings.Join(d.Aliases, ",")
		}
		row := screen.Row{Cells: []screen.Cell{{Text: name}, {Text: d.Username}}}
		for _, n := range []int{d.MaxSize, d.InitialSize, d.MinSize} {
			row.Cells = append(row.Cells, screen.Cell{Text: strconv.Itoa(n)})
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Rows) == 0 {
		p.says(screen.Plain, "The databases file has no lines.")
	}
	p.table("", t)
}

func reloadView(p *page, _ *answer, r *control.ReloadResponse) {
	if len(r.Changed) == 0 {
		p.says(screen.Plain, "Nothing has changed.")
	} else {
		p.says(screen.Good, "The changes are in effect.")
	}
	for _, c := range r.NeedsRestart {
		p.alarm(screen.Worry, "needs a restart: "+changed(c))
	}
	if len(r.Credentials) > 0 {
		p.says(screen.Plain, "Credentials of the service manager are those of the start; a changed one needs a restart: "+strings.Join(r.Credentials, ", "))
	}
	p.table("", changesTable(r.Changed))
	if r.Restart {
		p.suggest("systemctl restart pgagroal", "what needs a restart takes effect; every client is disconnected")
	}
}

func changed(c control.ConfChange) string {
	if c.Old == "" && c.New == "" {
		return c.Key
	}
	return c.Key + ", from " + orEmptyText(c.Old) + " to " + orEmptyText(c.New)
}

func orEmptyText(s string) string {
	if s == "" {
		return "''"
	}
	return s
}

func changesTable(list []control.ConfChange) screen.Table {
	t := screen.Table{Columns: []screen.Column{{Title: "KEY"}, {Title: "WAS"}, {Title: "IS"}}}
	for _, c := range list {
		row := screen.Row{Cells: []screen.Cell{{Text: c.Key}}}
		if c.Old != "" || c.New != "" {
			row.Cells = append(row.Cells, screen.Cell{Text: orEmptyText(c.Old)}, screen.Cell{Text: orEmptyText(c.New)})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// confView writes the configuration as the main file has it, and the rules of the other
// files as tables.
func confView(p *page, a *answer) error {
	v, err := parse(a.Response)
	all, ok := v.(*object)
	if err != nil || !ok {
		return unreachablef("the answer can't be read: %v", err)
	}
	sources, _ := all.get("sources").(*object)
	section(p, "pgagroal", withoutSections(all), func(key string) string { return sourceOf(sources, key) })
	servers, _ := all.get("server").(*object)
	if servers != nil {
		for _, m := range servers.members {
			if o, ok := m.value.(*object); ok {
				section(p, m.key, o, func(key string) string { return sourceOf(sources, "server."+m.key+"."+key) })
			}
		}
	}
	for _, name := range []string{"hba", "limit"} {
		p.table(name, plainTable(name, all.get(name)))
	}
	return nil
}

// withoutSections returns the plain values of o.
func withoutSections(o *object) *object {
	plain := &object{}
	for _, m := range o.members {
		if _, ok := m.value.(*object); m.key != versionKey && (!ok || isNested(m.value)) {
			plain.members = append(plain.members, m)
		}
	}
	return plain
}

// section writes a section of the main file.
func section(p *page, name string, o *object, source func(key string) string) {
	p.part("[" + screen.Clean(name) + "]")
	p.text.WriteString(settings(o, source))
}

// settings writes one key a line, as in the main file, below a comment that says where it was set, if source isn't nil and knows.
func settings(o *object, source func(key string) string) string {
	var b strings.Builder
	for _, m := range o.members {
		if source != nil && source(m.key) != "" {
			b.WriteString("# " + screen.Clean(source(m.key)) + "\n")
		}
		b.WriteString(strings.TrimRight(screen.Clean(m.key+" = "+plainText(m.key, m.value)), " ") + "\n")
	}
	return b.String()
}

// sourceOf returns where a value was set, or "" for a default.
func sourceOf(sources *object, name string) string {
	if sources == nil {
		return ""
	}
	text, _ := sources.get(name).(string)
	return text
}
