package control

import (
	"maps"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
)

// ConfValue returns the value of KEY, pgagroal.KEY, server.NAME.KEY (or NAME.KEY, as the section is [NAME]),
// hba.USER.KEY or limit.DATABASE.KEY, or all values of a section, or everything for the empty key. A key of pgagroal
// precedes a server of the same name. It never contains a password. The error is ErrUnknownKey.
//
// Most durations, sizes and words of a choice are objects with value (seconds, bytes, the
// word) and string_value (the text of the file). Durations that C pgagroal shows as plain
// numbers are plain numbers.
func ConfValue(c *config.Config, key string) (any, error) {
	tree := confTree(c)
	if key == "" {
		return tree, nil
	}
	if v, ok := tree[key]; ok {
		return v, nil
	}
	section, rest, dot := strings.Cut(key, ".")
	switch {
	case section == "pgagroal":
		return mainValue(tree, rest, dot)
	case isSection(section):
		return entryValue(tree[section].(map[string]any), rest)
	}
	return entryValue(tree["server"].(map[string]any), key)
}

// mainValue returns one key of the section [pgagroal], or all of them.
func mainValue(tree map[string]any, key string, one bool) (any, error) {
	maps.DeleteFunc(tree, func(name string, _ any) bool { return isSection(name) })
	if !one {
		return tree, nil
	}
	if v, ok := tree[key]; ok {
		return v, nil
	}
	return nil, ErrUnknownKey
}

// entryValue returns an entry of a section, or one key of it.
func entryValue(entries map[string]any, rest string) (any, error) {
	if v, ok := entries[rest]; ok {
		return v, nil
	}
	// A database or user may have dots in its name, a key has none.
	dot := max(strings.LastIndexByte(rest, '.'), 0)
	fields, _ := entries[rest[:dot]].(map[string]any)
	if v, ok := fields[strings.TrimPrefix(rest[dot:], ".")]; ok {
		return v, nil
	}
	return nil, ErrUnknownKey
}

func isSection(name string) bool { return name == "server" || name == "hba" || name == "limit" }

// ConfFiles returns the paths of the files of c.
func ConfFiles(p config.Paths) control.ConfListResponse {
	return control.ConfListResponse{
		Main: p.Config, HBA: p.HBA, Limit: p.Limits, Users: p.Users,
		FrontendUsers: p.Frontend, Admin: p.Admins, Superuser: p.Superuser,
		Included: p.Included, Auto: p.Auto,
	}
}

// ConfSources returns where each value that ConfValue returns for the key was set, by KEY or server.NAME.KEY. Defaults are
// left out, except for a single key.
func ConfSources(c *config.Config, key string) map[string]string {
	sources := map[string]string{}
	found, _, _ := c.Find(key)
	for e := range c.Rows() {
		full := e.FullName()
		o := c.Origin(full)
		if full != found && (o == config.Origin{} || !holds(key, e)) {
			continue
		}
		sources[full] = o.String()
	}
	return sources
}

// holds reports whether a section, or everything for the empty key, has an entry.
func holds(section string, e config.Entry) bool {
	if e.Server == "" {
		return section == "" || section == "pgagroal"
	}
	return section == "" || section == "server" || section == e.Server || section == "server."+e.Server
}

// ConfAliases returns the lines of the databases file.
func ConfAliases(c *config.Config) control.AliasResponse {
	r := control.AliasResponse{Databases: map[string]control.AliasedDatabase{}}
	for _, l := range c.Limits {
		name := l.Database.String()
		if _, ok := r.Databases[name]; ok {
			name += " " + l.User.String() // C pgagroal shows one line of a database
		}
		r.Databases[name] = control.AliasedDatabase{
			Username: l.User.String(), MaxSize: l.MaxSize, InitialSize: l.InitialSize, MinSize: l.MinSize, Aliases: orEmpty(l.Aliases),
		}
	}
	return r
}

func confTree(c *config.Config) map[string]any {
	servers, tree := map[string]any{}, map[string]any{}
	for _, s := range c.Servers {
		servers[s.Name] = map[string]any{}
	}
	for e := range c.Rows() {
		fields := tree
		if e.Server != "" {
			fields = servers[e.Server].(map[string]any)
		}
		fields[e.Row.Name] = confField(e)
	}
	tree["server"], tree["hba"], tree["limit"] = servers, confHBA(c.HBA), confLimits(c.Limits)
	return tree
}

func confField(e config.Entry) any {
	if e.Row.Name == "max_connection_age" || e.Row.Name == "background_interval" { // plain numbers in C pgagroal
		return int64(e.Value.(time.Duration) / time.Second)
	}
	nested := func(value any) any { return map[string]any{"value": value, "string_value": e.Text} }
	switch e.Row.Kind {
	case config.Duration, config.DurationMS:
		return nested(e.Value.(time.Duration).Seconds())
	case config.Seconds:
		return int64(e.Value.(time.Duration) / time.Second)
	case config.Millis:
		return e.Value.(time.Duration).Milliseconds()
	case config.Size, config.Enum:
		return nested(e.Value)
	case config.Workers:
		return e.Text
	}
	return e.Value
}

func confHBA(rules []config.HBARule) map[string]any {
	m := map[string]any{}
	for _, r := range rules {
		m[r.User.String()] = map[string]any{
			"type": r.Type, "database": r.Database.String(), "username": r.User.String(), "address": r.Address, "method": r.Method,
		}
	}
	return m
}

func confLimits(limits []config.Limit) map[string]any {
	m := map[string]any{}
	for _, l := range limits {
		m[l.Database.String()] = map[string]any{
			"database": l.Database.String(), "username": l.User.String(), "max_size": l.MaxSize, "initial_size": l.InitialSize,
			"min_size": l.MinSize, "number_of_aliases": len(l.Aliases), "aliases": orEmpty(l.Aliases),
		}
	}
	return m
}
