package config

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Entry is one key with its value.
type Entry struct {
	Server string // name of the server section; empty for the main section
	Row    Row
	Value  any    // string, int, int64 (bytes), bool or time.Duration
	Text   string // in the syntax of the file, without quotes, as `conf get` shows it
}

// Rows yields every key of the main section, then those of each server, in the table's order.
func (c *Config) Rows() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		rows := Keys()
		for _, r := range rows {
			if r.Section == MainSection && !yield(entry("", r, r.main(c))) {
				return
			}
		}
		for i := range c.Servers {
			for _, r := range rows {
				if r.Section == ServerSection && !yield(entry(c.Servers[i].Name, r, r.server(&c.Servers[i]))) {
					return
				}
			}
		}
	}
}

func entry(server string, r Row, field any) Entry {
	return Entry{Server: server, Row: r, Value: reflect.ValueOf(field).Elem().Interface(), Text: r.format(field)}
}

// Get returns the value of KEY, pgagroal.KEY, server.NAME.KEY, hba.USER.KEY or limit.DATABASE.KEY.
func (c *Config) Get(name string) (string, bool) {
	section, rest, ok := strings.Cut(name, ".")
	if !ok {
		return c.getKey("", name)
	}
	if slices.Contains(mainSections[:], section) {
		return c.getKey("", rest)
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot < 0 {
		return "", false
	}
	who, key := rest[:dot], rest[dot+1:]
	switch section {
	case "server":
		return c.getKey(who, key)
	case "hba":
		return c.getHBA(who, key)
	case "limit":
		return c.getLimit(who, key)
	}
	return "", false
}

func (c *Config) getKey(server, key string) (string, bool) {
	for e := range c.Rows() {
		if e.Server == server && e.Row.Name == key {
			return e.Text, true
		}
	}
	return "", false
}

func (c *Config) getHBA(user, key string) (string, bool) {
	i := slices.IndexFunc(c.HBA, func(r HBARule) bool { return r.User.String() == user })
	if i < 0 {
		return "", false
	}
	r := c.HBA[i]
	v, ok := map[string]string{
		"type": r.Type, "database": r.Database.String(), "username": r.User.String(), "address": r.Address, "method": r.Method,
	}[key]
	return v, ok
}

func (c *Config) getLimit(database, key string) (string, bool) {
	i := slices.IndexFunc(c.Limits, func(l Limit) bool { return l.Database.String() == database })
	if i < 0 {
		return "", false
	}
	l := c.Limits[i]
	v, ok := map[string]string{
		"database": l.Database.String(), "username": l.User.String(), "aliases": strings.Join(l.Aliases, ","),
		"max_size": strconv.Itoa(l.MaxSize), "initial_size": strconv.Itoa(l.InitialSize),
		"min_size": strconv.Itoa(l.MinSize), "number_of_aliases": strconv.Itoa(len(l.Aliases)),
		"query_timeout": l.queryTimeout(),
	}[key]
	return v, ok
}

// queryTimeout prints the query_timeout of a limit, empty for none.
func (l Limit) queryTimeout() string {
	if l.QueryTimeout == Unset {
		return ""
	}
	return formatDuration(l.QueryTimeout)
}

// Set changes KEY, pgagroal.KEY, server.NAME.KEY or NAME.KEY in memory. The caller should change a Clone, and
// use Check and Diff on it before it becomes the configuration in use.
func (c *Config) Set(name, text string) error {
	field, row, full, ok := c.locate(name)
	if !ok {
		return fmt.Errorf("there is no key %q", name)
	}
	if err := usable([]byte(text)); err != nil {
		return fmt.Errorf("%s: %w", row.Name, err)
	}
	if row.Kind != Path && strings.Contains(text, "'") && strings.Contains(text, `"`) {
		return errors.New(row.Name + ": a value can't hold both kinds of quotes")
	}
	v, err := row.parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", row.Name, err)
	}
	store(field, v)
	c.setOrigin(full, Origin{File: SetByCommand})
	c.settle()
	return nil
}

// Find returns the row of KEY, pgagroal.KEY, server.NAME.KEY or NAME.KEY, and the name of the value in Config.Origin.
func (c *Config) Find(name string) (full string, row Row, ok bool) {
	_, row, full, ok = c.locate(name)
	return full, row, ok
}

// locate finds the key of KEY, pgagroal.KEY, server.NAME.KEY or NAME.KEY. full is its name in Config.Origin.
func (c *Config) locate(name string) (field any, row Row, full string, ok bool) {
	server, key := "", name
	if rest, ok := strings.CutPrefix(name, "server."); ok {
		dot := max(strings.LastIndexByte(rest, '.'), 0)
		server, key = rest[:dot], strings.TrimPrefix(rest[dot:], ".")
	} else if section, rest, ok := strings.Cut(name, "."); ok && slices.Contains(mainSections[:], section) {
		key = rest
	} else if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		server, key = name[:dot], name[dot+1:]
	}
	rows := Keys()
	if server == "" {
		i := slices.IndexFunc(rows, func(r Row) bool { return r.Section == MainSection && r.Name == key })
		if i < 0 {
			return nil, Row{}, "", false
		}
		return rows[i].main(c), rows[i], key, true
	}
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Section == ServerSection && r.Name == key })
	j := slices.IndexFunc(c.Servers, func(s Server) bool { return s.Name == server })
	if i < 0 || j < 0 {
		return nil, Row{}, "", false
	}
	return rows[i].server(&c.Servers[j]), rows[i], fullName(server, key), true
}

// WriteMain prints the main file: every key with its value. Reading it back gives the same values.
func (c *Config) WriteMain(w io.Writer) error {
	var b strings.Builder
	b.WriteString("[" + mainSections[0] + "]\n")
	server := ""
	for e := range c.Rows() {
		if e.Server != server {
			server = e.Server
			b.WriteString("\n[" + server + "]\n")
		}
		if e.Text == "" && e.Row.Default == "" && e.Row.Kind != String {
			continue
		}
		if e.Row.Kind == Port && e.Row.Min > 0 && e.Text == "0" {
			continue // not set, and 0 is not a port
		}
		fmt.Fprintf(&b, "%s = %s\n", e.Row.Name, e.Row.quoted(e.Text))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return nil
}
