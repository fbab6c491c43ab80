package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Settings returns the values of parameters as pg_settings shows them to us, times in milliseconds or whatever the unit
// of the parameter is; one that the server doesn't have or show is left out. It looks once and returns within t.Timeout,
// or at once when ctx ends.
func Settings(ctx context.Context, t Target, names []string) (map[string]string, error) {
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	p := prober{ctx: bounded, target: t}
	err := errors.New("there is no login for a look")
	for _, l := range t.Logins {
		var s *session
		if s, err = p.login(l); err == nil {
			defer s.close()
			return s.settings(names)
		}
		if s == nil || bounded.Err() != nil {
			break // another login wouldn't get any further
		}
	}
	return nil, fmt.Errorf("look at the settings: %w", err)
}

func (s *session) settings(names []string) (map[string]string, error) {
	s.ask("SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('" + strings.Join(names, "', '") + "')")
	rows, err := s.answer()
	if err != nil {
		return nil, fmt.Errorf("look at the settings: %w", err)
	}
	out := map[string]string{}
	for _, row := range rows {
		if len(row) == 2 {
			out[row[0]] = row[1]
		}
	}
	return out, nil
}
