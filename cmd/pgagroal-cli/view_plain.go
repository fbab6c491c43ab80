package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// versionKey is the first member of every response; people need it in some pages only.
const versionKey = "ServerVersion"

// plainView writes an answer without a page of its own: values first, then a table for
// each list and for each object of objects.
func plainView(p *page, a *answer) error {
	if len(a.Response) == 0 {
		p.says(screen.Plain, "Done.")
		return nil
	}
	v, err := parse(a.Response)
	o, ok := v.(*object)
	if err != nil || !ok {
		return unreachablef("the answer can't be read: %v", err)
	}
	plainObject(p, "", o)
	if p.text.Len() == 0 {
		p.says(screen.Plain, "Done.")
	}
	return nil
}

func plainObject(p *page, title string, o *object) {
	var values []screen.Pair
	var rest []member
	for _, m := range o.members {
		switch {
		case m.key == versionKey:
		case isTable(m.value):
			rest = append(rest, m)
		default:
			values = append(values, screen.Pair{Name: m.key, Text: plainText(m.key, m.value)})
		}
	}
	p.pairs(title, values...)
	for _, m := range rest {
		if o, ok := m.value.(*object); ok && !allObjects(o) {
			plainObject(p, m.key, o)
			continue
		}
		p.table(m.key, plainTable(m.key, m.value))
	}
}

// isTable reports whether a value is shown on its own, below the plain values.
func isTable(v any) bool {
	switch v := v.(type) {
	case *object:
		return len(v.members) > 0 && !isNested(v)
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { _, ok := item.(*object); return ok })
	}
	return false
}

// isNested reports whether v is a value with its text, as conf get has them.
func isNested(v any) bool {
	o, ok := v.(*object)
	return ok && o.get("string_value") != nil
}

func allObjects(o *object) bool {
	return !slices.ContainsFunc(o.members, func(m member) bool { _, ok := m.value.(*object); return !ok })
}

// plainTable makes a table of a list of objects, or of an object of objects, whose keys
// are the first column then.
func plainTable(name string, v any) screen.Table {
	var t screen.Table
	var rows []*object
	keyed, _ := v.(*object)
	list, _ := v.([]any)
	if keyed != nil {
		t.Columns = []screen.Column{{Title: "NAME"}}
		for _, m := range keyed.members {
			row, _ := m.value.(*object)
			rows = append(rows, row)
		}
	}
	for _, item := range list {
		row, ok := item.(*object)
		if !ok {
			row = &object{members: []member{{name, item}}}
		}
		rows = append(rows, row)
	}
	keys := keysOf(rows)
	for i, k := range keys {
		// The first columns say what a row is about.
		t.Columns = append(t.Columns, screen.Column{Title: strings.ToUpper(k), Right: allNumbers(rows, k), Spare: max(0, i-2)})
	}
	for i, o := range rows {
		var row screen.Row
		if keyed != nil {
			row.Cells = []screen.Cell{{Text: keyed.members[i].key}}
		}
		for _, k := range keys {
			text := ""
			if v := o.get(k); v != nil {
				text = plainText(k, v)
			}
			row.Cells = append(row.Cells, screen.Cell{Text: text, Colour: colourOf(text)})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// keysOf returns the keys of all rows, each once.
func keysOf(rows []*object) []string {
	var keys []string
	for _, o := range rows {
		if o == nil {
			continue
		}
		for _, m := range o.members {
			if !slices.Contains(keys, m.key) {
				keys = append(keys, m.key)
			}
		}
	}
	return keys
}

func allNumbers(rows []*object, key string) bool {
	for _, o := range rows {
		if _, ok := o.get(key).(json.Number); !ok && o.get(key) != nil {
			return false
		}
	}
	return true
}

// plainText is a value in one line.
func plainText(key string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "on"
		}
		return "off"
	case json.Number:
		return numberText(key, v)
	case string:
		return v
	case []any:
		var list []string
		for _, item := range v {
			list = append(list, plainText("", item))
		}
		return strings.Join(list, ", ")
	case *object:
		if isNested(v) {
			return plainText("", v.get("string_value"))
		}
		var list []string
		for _, m := range v.members {
			list = append(list, m.key+" "+plainText(m.key, m.value))
		}
		return strings.Join(list, ", ")
	}
	return fmt.Sprint(v)
}

// numberText writes bytes and seconds as people say them.
func numberText(key string, n json.Number) string {
	switch key {
	case "Behind":
		if b, err := n.Int64(); err == nil {
			return screen.Bytes(b)
		}
	case "Age", "ProbeAge", "Elapsed", "Timeout", "Wait", "Waited", "Idle", "StateAge":
		if s, err := n.Float64(); err == nil {
			return screen.Seconds(s)
		}
	}
	return n.String()
}
