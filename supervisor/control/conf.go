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
	}
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
