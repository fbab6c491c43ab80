package relay

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// The witness is a look at the server for what a session has left there and no text of its client
// showed: a trigger may lock, a view may set a parameter. It can mark a session and never clears a mark,
// because not everything can be seen there: what a function remembers, for example, can't.

// WitnessQueries find what a session has left. They don't depend on what it has set: a transaction
// of their own keeps default_transaction_deferrable from making them wait.
var WitnessQueries = []string{
	"BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY, NOT DEFERRABLE",
	"/* pgagroal looks for what a session has left */ SELECT CASE" +
		" WHEN pg_catalog.pg_my_temp_schema() <> 0 AND EXISTS (SELECT FROM pg_catalog.pg_class" +
		" WHERE relnamespace = pg_catalog.pg_my_temp_schema()) THEN 'a temporary table'" +
		" WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())" +
		" THEN 'an advisory lock'" +
		" WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors) THEN 'a cursor WITH HOLD'" +
		" WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN 'a statement that PREPARE has made'" +
		" WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'LISTEN' END," +
		" (SELECT pg_catalog.string_agg(pg_catalog.lower(name), ',') FROM pg_catalog.pg_settings" +
		" WHERE source = 'session' AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable'))",
	"COMMIT",
}

// markNotSeen is for a session about which the server couldn't say anything.
const markNotSeen = "a look at what it has left there, which failed"

// markManySet is for a session with so many settings that their names can't be compared.
const markManySet = "more settings than pgagroal compares"

// Witness returns the queries of the witness, and nil if it has nothing to tell: the session is
// marked, or the client has used it for nothing since the last time. The conversation must be Resting.
func (k *Kept) Witness() []string {
	if !k.Unseen() {
		return nil
	}
	k.keep.unseen = false
	return WitnessQueries
}

// Unseen reports whether Witness would be asked first.
func (k *Kept) Unseen() bool { return k.keep.unseen && k.keep.mark == "" && k.keep.reader.Doubts() }

// Witnessed takes the body of the DataRow that answers the queries of Witness, and whether they succeeded.
func (k *Kept) Witnessed(row []byte, ok bool) {
	if !ok || row == nil {
		k.keep.answered(&Effect{Mark: markNotSeen})
		return
	}
	left, rest, ok := column(row[min(2, len(row)):])
	if ok && left != "" {
		k.keep.answered(&Effect{Mark: left + ", which no statement of the client showed"})
		return
	}
	names, _, ok := column(rest)
	if !ok {
		k.keep.answered(&Effect{Mark: markManySet})
		return
	}
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' }) {
		if !k.keep.knows(name) {
			k.keep.answered(&Effect{Mark: "a value of " + name + " that no statement of the client showed"})
			return
		}
	}
}

// column reads a column of a DataRow. NULL is "". ok is false if it isn't whole.
func column(b []byte) (value string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	switch b = b[4:]; {
	case n < 0:
		return "", b, true
	case n > len(b):
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// knows reports whether an assignment of a parameter is remembered, or each client's value of it
// is known.
func (k *keeping) knows(name string) bool {
	return isTracked(name) || slices.ContainsFunc(k.sets, func(a Assignment) bool {
		return a.Name == name || a.Name == characteristicsName && strings.HasPrefix(name, "default_transaction_")
	})
}

// RowScanner is ScriptScanner for queries whose first row is wanted: it stops at a DataRow, too.
func RowScanner() pgwire.Scanner { return pgwire.NewScanner(rowInterests) }

var rowInterests = func() *pgwire.Interests {
	in := *scriptInterests
	in.Set(pgwire.WithBody, 'D')
	return &in
}()
