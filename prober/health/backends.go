package health

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// backendsAtOnce is how many process ids one query names: its answer fits into maxMessage.
const backendsAtOnce = 4096

// Backends returns the members of pids that t still shows as server processes, in any state and of any user. It asks
// once and returns within t.Timeout, or at once when ctx ends. After an error nothing is known about any of them.
func Backends(ctx context.Context, t Target, pids []uint32) ([]uint32, error) {
	return look(ctx, t, "backends", func(s *session) ([]uint32, error) { return s.backends(pids) })
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
			return nil, err
		}
		for text := range strings.SplitSeq(field(rows, 0), ",") {
			if pid, err := strconv.ParseUint(text, 10, 32); err == nil {
				shown = append(shown, uint32(pid))
			}
		}
	}
	return shown, nil
}
