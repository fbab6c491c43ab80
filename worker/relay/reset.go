package relay

import (
	"bytes"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// ResetQueries returns the statements of a reset query, which are to be run one by one:
// together they would be one transaction, in which DISCARD ALL can't run. A text that
// begins or ends transactions itself, or that isn't understood, stays whole.
func ResetQueries(text string) []string {
	var all []string
	for rest := []byte(text); len(rest) > 0; {
		end, ok := statementEnd(rest)
		if !ok || controlOf(nextWord(rest[:end])) != 0 {
			return []string{text}
		}
		if len(skipBlank(rest[:end])) > 0 {
			all = append(all, strings.TrimSpace(string(rest[:end])))
		}
		rest = rest[min(end+1, len(rest)):]
	}
	return all
}

// Ran takes the command tag of a query of the worker's own. Only the server can tell
// whether a reset query has closed the prepared statements; all others stay known, so
// that they are used again, or closed when there are too many.
func (b *Backend) Ran(tag []byte) {
	switch string(bytes.TrimRight(tag, "\x00")) {
	case "DISCARD ALL", "DEALLOCATE ALL":
		b.prepared.clear()
	}
}

var scriptInterests = func() *pgwire.Interests {
	in := *serverInterests
	in.Set(pgwire.WithBody, 'C')
	return &in
}()

// ScriptScanner returns a scanner for the answers to the worker's own queries.
// It stops at ReadyForQuery, ErrorResponse, ParameterStatus, CommandComplete and the
// beginning of a COPY.
func ScriptScanner() pgwire.Scanner { return pgwire.NewScanner(scriptInterests) }
