package health

import (
	"context"
	"strings"
)

// Settings returns the values of parameters in pg_settings, in the unit of each parameter, such as milliseconds. It
// leaves out parameters that the server doesn't have or show. It asks once and returns within t.Timeout, or at once
// when ctx ends.
func Settings(ctx context.Context, t Target, names []string) (map[string]string, error) {
	return look(ctx, t, "settings", func(s *session) (map[string]string, error) { return s.settings(names) })
}

func (s *session) settings(names []string) (map[string]string, error) {
	s.ask("SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('" + strings.Join(names, "', '") + "')")
	rows, err := s.answer()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, row := range rows {
		if len(row) == 2 {
			out[row[0]] = row[1]
		}
	}
	return out, nil
}
