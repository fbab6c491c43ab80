package health

import (
	"context"
	"errors"
	"fmt"
)

// look runs one query at t, with the first login that succeeds; what names the query in errors. It returns within
// t.Timeout, or at once when ctx ends.
func look[T any](ctx context.Context, t Target, what string, ask func(*session) (T, error)) (answer T, err error) {
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	p := prober{ctx: bounded, target: t}
	err = errors.New("there is no login for a look")
	for _, l := range t.Logins {
		var s *session
		if s, err = p.login(l); err == nil {
			defer s.close()
			if answer, err = ask(s); err == nil {
				return answer, nil
			}
			break
		}
		if s == nil || bounded.Err() != nil {
			break // another login would fail as well
		}
	}
	var none T
	return none, fmt.Errorf("look at the %s: %w", what, err)
}
