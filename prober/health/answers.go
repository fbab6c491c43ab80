package health

import (
	"context"
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// Answer is the answer to one of several queries: rows with NULL as an empty text, or the server's error. Began and Ended
// are the times here before the query was sent and after its answer has come.
type Answer struct {
	Rows         [][]string
	Err          error
	Began, Ended time.Time
}

// Session is what several queries over one connection have shown.
type Session struct {
	TLS     *tlsmem.Facts // nil in clear text
	Answers []Answer      // one for each query
}

// Answers asks the queries one after the other, over one connection and with the first login that succeeds. It returns
// within t.Timeout, or at once when ctx ends.
func Answers(ctx context.Context, t Target, queries ...string) (Session, error) {
	return look(ctx, t, "set-up", func(s *session) (Session, error) { return s.answers(queries) })
}

func (s *session) answers(queries []string) (Session, error) {
	var out Session
	if w, ok := s.conn.(*tlsmem.Wired); ok {
		facts := w.Facts()
		out.TLS = &facts
	}
	for _, q := range queries {
		a := Answer{Began: time.Now()}
		s.ask(q)
		a.Rows, a.Err = s.answer()
		a.Ended = time.Now()
		if said, _ := errors.AsType[*auth.ServerError](a.Err); a.Err != nil && (said == nil || said.Fields.Fatal()) {
			return out, a.Err
		}
		out.Answers = append(out.Answers, a)
	}
	return out, nil
}
