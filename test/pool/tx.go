package pool

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// TxPool starts a pool in the transaction pipeline, with one worker and room for so
// many backends.
func TxPool(t testing.TB, c *pgtest.Cluster, backends int, keys map[string]string) *Pool {
	t.Helper()
	all := map[string]string{"pipeline": "transaction", "max_connections": fmt.Sprint(backends), "workers": "1"}
	for k, v := range keys {
		all[k] = v
	}
	return Start(t, Setup{Servers: Nodes(c), Keys: all})
}

// Cell returns the only value of a result.
func Cell(t testing.TB, res *pgtest.Result, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Rows) != 1 || len(res.Rows[0]) != 1 {
		t.Fatalf("rows %v instead of one value", res.Rows)
	}
	return res.Rows[0][0]
}

// PrepareStatement makes a named statement.
func PrepareStatement(t testing.TB, c *pgtest.Client, name, sql string) {
	t.Helper()
	if err := c.Prepare(t.Context(), name, sql); err != nil {
		t.Fatalf("prepare %q: %v", sql, err)
	}
}

// RunPrepared runs a named statement that returns one value.
func RunPrepared(t testing.TB, c *pgtest.Client, name string, args ...string) string {
	t.Helper()
	res, err := c.ExecPrepared(t.Context(), name, args...)
	return Cell(t, res, err)
}

// Send sends messages and waits for no answer.
func Send(t testing.TB, c *pgtest.Client, msgs ...pgproto3.FrontendMessage) {
	t.Helper()
	if err := c.Send(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
}

// Told reads messages up to one of type last and returns them all, one word each: rows
// and tags with their text, errors with their SQLSTATE.
func Told(t testing.TB, c *pgtest.Client, last string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Generous)
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

// ParseMsg makes a named statement.
func ParseMsg(name, sql string) pgproto3.FrontendMessage {
	return &pgproto3.Parse{Name: name, Query: sql}
}

// BindMsg binds text parameters to a statement.
func BindMsg(name string, args ...string) pgproto3.FrontendMessage {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, a := range args {
		b.Parameters = append(b.Parameters, []byte(a))
	}
	return b
}

var (
	ExecuteMsg = &pgproto3.Execute{}
	SyncMsg    = &pgproto3.Sync{}
	FlushMsg   = &pgproto3.Flush{}
)
