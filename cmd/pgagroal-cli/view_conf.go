package main

import (
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
	p.pairs("", list...)
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
	section(p, "pgagroal", withoutSections(all))
	servers, _ := all.get("server").(*object)
	if servers != nil {
		for _, m := range servers.members {
			if o, ok := m.value.(*object); ok {
				section(p, m.key, o)
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
func section(p *page, name string, o *object) {
	p.part("[" + screen.Clean(name) + "]")
	p.text.WriteString(settings(o))
}

// settings writes one key a line, as in the main file.
func settings(o *object) string {
	var b strings.Builder
	for _, m := range o.members {
		b.WriteString(strings.TrimRight(screen.Clean(m.key+" = "+plainText(m.key, m.value)), " ") + "\n")
	}
	return b.String()
}
