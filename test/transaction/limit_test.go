package transaction

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A client that prepares statements without end gets an error, and everything else goes
// on working for it.
func TestPooledStatementsOfAClientAreBounded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	greedy, other := p.Connect(), p.Connect()
	text := "SELECT 'kept' -- " + strings.Repeat("x", 4<<20)
	n := 0
	for ; n < 30; n++ {
		if err := greedy.Prepare(t.Context(), fmt.Sprint("s", n), text); err != nil {
			pool.WantCode(t, err, "54000", "limited to 8192")
			break
		}
	}
	if n != 15 {
		t.Errorf("%d statements of 4 MiB were taken", n)
	}
	if got := pool.RunPrepared(t, greedy, "s0"); got != "kept" {
		t.Error(got)
	}
	pool.Send(t, greedy, &pgproto3.Query{String: "BEGIN"}, pool.ParseMsg("more", text), pool.BindMsg("more"), pool.ExecuteMsg, pool.SyncMsg,
		&pgproto3.Query{String: "SELECT 1"}, &pgproto3.Query{String: "ROLLBACK"})
	wantTold(t, greedy, "done:BEGIN ready:T | error:54000 ready:E | error:25P02 ready:E | done:ROLLBACK ready:I")
	pool.PrepareStatement(t, other, "s0", text)
	if got := pool.RunPrepared(t, other, "s0"); got != "kept" {
		t.Error(got)
	}
	pool.Send(t, other, pool.ParseMsg("huge", "SELECT 1 -- "+strings.Repeat("x", 20<<20)), pool.BindMsg("huge"), pool.ExecuteMsg, pool.SyncMsg)
	wantTold(t, other, "error:54000 ready:I")
	if got := pool.RunPrepared(t, other, "s0"); got != "kept" {
		t.Error(got)
	}
	pool.Send(t, greedy, &pgproto3.Close{ObjectType: 'S', Name: "s0"}, pool.ParseMsg("more", text), pool.SyncMsg)
	wantTold(t, greedy, "CloseComplete ParseComplete ready:I")
	if got := pool.RunPrepared(t, greedy, "more"); got != "kept" {
		t.Error(got)
	}
}
