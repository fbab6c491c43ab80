package test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// txPool starts a pool in the transaction pipeline with room for so many
// backends, in one worker.
func txPool(t testing.TB, c *pgtest.Cluster, backends int, keys map[string]string) *Pool {
	t.Helper()
	all := map[string]string{"pipeline": "transaction", "max_connections": fmt.Sprint(backends), "workers": "1"}
	for k, v := range keys {
		all[k] = v
	}
	return Start(t, Setup{Servers: nodes(c), Keys: all})
}

// cell returns the only value of a result.
func cell(t testing.TB, res *pgtest.Result, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Rows) != 1 || len(res.Rows[0]) != 1 {
		t.Fatalf("rows %v instead of one value", res.Rows)
	}
	return res.Rows[0][0]
}

// prepare makes a named statement.
func prepare(t testing.TB, c *pgtest.Client, name, sql string) {
	t.Helper()
	if err := c.Prepare(t.Context(), name, sql); err != nil {
		t.Fatalf("prepare %q: %v", sql, err)
	}
}

// runPrepared runs a named statement that returns one value.
func runPrepared(t testing.TB, c *pgtest.Client, name string, args ...string) string {
	t.Helper()
	res, err := c.ExecPrepared(t.Context(), name, args...)
	return cell(t, res, err)
}

// send sends messages and waits for no answer.
func send(t testing.TB, c *pgtest.Client, msgs ...pgproto3.FrontendMessage) {
	t.Helper()
	if err := c.Send(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
}

// told reads messages up to one of a type and returns all, one word each: rows
// and tags with their text, errors with their SQLSTATE.
func told(t testing.TB, c *pgtest.Client, last string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	defer cancel()
	var all []string
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			t.Fatalf("waiting for %q after %v: %v", last, all, err)
		}
		word := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		switch m := m.(type) {
		case *pgproto3.DataRow:
			word = "row:" + string(m.Values[0])
		case *pgproto3.CommandComplete:
			word = "done:" + strings.ReplaceAll(string(m.CommandTag), " ", "_")
		case *pgproto3.ErrorResponse:
			word = "error:" + m.Code
		case *pgproto3.ReadyForQuery:
			word = "ready:" + string(m.TxStatus)
		case *pgproto3.ParameterStatus:
			word = "set:" + m.Name + "=" + m.Value
		}
		all = append(all, word)
		if strings.HasPrefix(word, last) {
			return strings.Join(all, " ")
		}
	}
}

// wantTold fails the test unless the client is told this, up to its end.
func wantTold(t testing.TB, c *pgtest.Client, want string) {
	t.Helper()
	for _, part := range strings.Split(want, " | ") {
		words := strings.Fields(part)
		if got := told(t, c, words[len(words)-1]); got != part {
			t.Fatalf("told %q, want %q", got, part)
		}
	}
}

// Messages of the extended protocol, by the letters of the protocol's own names.
func parseMsg(name, sql string) pgproto3.FrontendMessage {
	return &pgproto3.Parse{Name: name, Query: sql}
}

func bindMsg(name string, args ...string) pgproto3.FrontendMessage {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, a := range args {
		b.Parameters = append(b.Parameters, []byte(a))
	}
	return b
}

var (
	execMsg  = &pgproto3.Execute{}
	syncMsg  = &pgproto3.Sync{}
	flushMsg = &pgproto3.Flush{}
)
