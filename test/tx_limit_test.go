package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Whoever prepares without end is told so, and loses nothing else by it.
func TestPooledStatementsOfAClientAreBounded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 1, nil)
	greedy, other := p.Connect(), p.Connect()
	text := "SELECT 'kept' -- " + strings.Repeat("x", 4<<20)
	n := 0
	for ; n < 30; n++ {
		if err := greedy.Prepare(t.Context(), fmt.Sprint("s", n), text); err != nil {
			wantCode(t, err, "54000", "limited to 8192")
			break
		}
	}
	if n != 15 {
		t.Errorf("%d statements of 4 MiB were taken", n)
	}
	if got := runPrepared(t, greedy, "s0"); got != "kept" {
		t.Error(got)
	}
	send(t, greedy, &pgproto3.Query{String: "BEGIN"}, parseMsg("more", text), bindMsg("more"), execMsg, syncMsg,
		&pgproto3.Query{String: "SELECT 1"}, &pgproto3.Query{String: "ROLLBACK"})
	wantTold(t, greedy, "done:BEGIN ready:T | error:54000 ready:E | error:25P02 ready:E | done:ROLLBACK ready:I")
	prepare(t, other, "s0", text)
	if got := runPrepared(t, other, "s0"); got != "kept" {
		t.Error(got)
	}
	send(t, other, parseMsg("huge", "SELECT 1 -- "+strings.Repeat("x", 20<<20)), bindMsg("huge"), execMsg, syncMsg)
	wantTold(t, other, "error:54000 ready:I")
	if got := runPrepared(t, other, "s0"); got != "kept" {
		t.Error(got)
	}
	send(t, greedy, &pgproto3.Close{ObjectType: 'S', Name: "s0"}, parseMsg("more", text), syncMsg)
	wantTold(t, greedy, "CloseComplete ParseComplete ready:I")
	if got := runPrepared(t, greedy, "more"); got != "kept" {
		t.Error(got)
	}
}
