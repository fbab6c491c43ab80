package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// backendsAtOnce is how many process ids one question names: the answer to it fits into maxMessage.
const backendsAtOnce = 4096

// Backends returns those of pids that t still shows as processes of its own, in any state and of any user. It looks
// once and returns within t.Timeout, or at once when ctx ends. With an error nothing is known of any of them.
func Backends(ctx context.Context, t Target, pids []uint32) ([]uint32, error) {
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
			return s.backends(pids)
		}
		if s == nil || bounded.Err() != nil {
			break // another login wouldn't get any further
		}
	}
	return nil, fmt.Errorf("look at the backends: %w", err)
}

func (s *session) backends(pids []uint32) ([]uint32, error) {
	var shown []uint32
	for list := range slices.Chunk(pids, backendsAtOnce) {
		texts := make([]string, len(list))
		for i, pid := range list {
			texts[i] = strconv.FormatUint(uint64(pid), 10)
		}
		s.ask("SELECT string_agg(pid::text, ',') FROM pg_stat_get_activity(NULL) WHERE pid IN (" + strings.Join(texts, ",") + ")")
		rows, err := s.answer()
		if err != nil {
			return nil, fmt.Errorf("look at the backends: %w", err)
		}
		for text := range strings.SplitSeq(field(rows, 0), ",") {
			if pid, err := strconv.ParseUint(text, 10, 32); err == nil {
				shown = append(shown, uint32(pid))
			}
		}
	}
	return shown, nil
}
