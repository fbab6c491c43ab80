package transaction

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A statement that waits for a backend is cancelled at once, and never runs. Messages
// that the client has sent after it are treated as PostgreSQL would treat them.
func TestPooledStatementThatWaitsIsCancelled(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE ran (i int)")
	p := pool.TxPool(t, c, 1, map[string]string{"blocking_timeout": "5m", "workers": "2"})
	holder := p.Connect()
	insert := "INSERT INTO ran VALUES (1)"
	batch := []pgproto3.FrontendMessage{pool.ParseMsg("", insert), pool.BindMsg(""), pool.ExecuteMsg, &pgproto3.Sync{}}
	for _, test := range []struct {
		name string
		send []pgproto3.FrontendMessage
		told string // received at once
		then string // received once a backend is free
	}{
		{"simple", []pgproto3.FrontendMessage{&pgproto3.Query{String: insert}}, "error:57014 ready:I", ""},
		{"extended", batch, "error:57014 ready:I", ""},
		{"without Sync", []pgproto3.FrontendMessage{pool.ParseMsg("", insert), pool.FlushMsg}, "error:57014", "ready:I"},
		{"BEGIN", []pgproto3.FrontendMessage{&pgproto3.Query{String: "BEGIN"}}, "error:57014 ready:I", ""},
		{"two", append(batch, &pgproto3.Query{String: "SELECT 2"}), "error:57014 ready:I", "RowDescription row:2 done:SELECT_1 ready:I"},
	} {
		cl := p.Connect()
		pool.MustQuery(t, holder, "BEGIN")
		pool.Send(t, cl, test.send...)
		p.WaitWaiting(1)
		if err := cl.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantTold(t, cl, test.told)
		pool.MustQuery(t, holder, "COMMIT")
		if test.name == "without Sync" {
			pool.Send(t, cl, &pgproto3.Sync{})
		}
		if test.then != "" {
			wantTold(t, cl, test.then)
		}
		if got := pool.MustQuery(t, cl, "SELECT count(*) FROM ran")[0][0]; got != "0" {
			t.Errorf("%s: it has run", test.name)
		}
		cl.Close()
	}
}
