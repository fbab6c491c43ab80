package transaction

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A pipelined batch has an error in the middle, and others use its backend right after
// it.
func TestPooledPipelineSkipsWhatFollowsAnErrorUpToTheSync(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl, other := p.Connect(), p.Connect()
	for range 3 {
		pool.Send(t, cl,
			pool.ParseMsg("a", "SELECT 'a'"), pool.BindMsg("a"), pool.ExecuteMsg, pool.SyncMsg,
			pool.ParseMsg("", "SELECT 1/0"), pool.BindMsg(""), pool.ExecuteMsg, pool.ParseMsg("lost", "SELECT 'lost'"), pool.BindMsg("a"), pool.ExecuteMsg, pool.SyncMsg,
			pool.BindMsg("a"), pool.ExecuteMsg, pool.SyncMsg,
			&pgproto3.Query{String: "SELECT 'q'"},
			&pgproto3.Close{ObjectType: 'S', Name: "a"}, pool.SyncMsg)
		wantTold(t, cl, "ParseComplete BindComplete row:a done:SELECT_1 ready:I | ParseComplete error:22012 ready:I | "+
			"BindComplete row:a done:SELECT_1 ready:I | RowDescription row:q done:SELECT_1 ready:I | CloseComplete ready:I")
		if got := pool.MustQuery(t, other, "SELECT 'other'")[0][0]; got != "other" {
			t.Fatalf("the other client got %s", got)
		}
		// The statement name from the failed part is free again.
		if _, err := cl.ExecPrepared(t.Context(), "lost"); pgtest.Code(err) != "26000" {
			t.Fatalf("a statement of a failed batch: %v", err)
		}
	}
}

func TestPooledFlushWithoutSyncKeepsTheBackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE kept (i int)")
	p := pool.TxPool(t, c, 1, nil)
	cl, other := p.Connect(), p.Connect()
	pool.Send(t, cl, pool.ParseMsg("", "INSERT INTO kept VALUES (1)"), pool.BindMsg(""), pool.ExecuteMsg, pool.FlushMsg)
	wantTold(t, cl, "ParseComplete BindComplete done:INSERT_0_1")
	pool.Send(t, other, &pgproto3.Query{String: "SELECT count(*) FROM kept"})
	p.WaitWaiting(1)
	pool.Send(t, cl, pool.BindMsg(""), pool.ExecuteMsg, pool.FlushMsg)
	wantTold(t, cl, "BindComplete done:INSERT_0_1")
	pool.Send(t, cl, pool.SyncMsg)
	wantTold(t, cl, "ready:I")
	wantTold(t, other, "RowDescription row:2 done:SELECT_1 ready:I")
}

// After an error the server ignores everything up to the Sync; messages that the client
// sends before the Sync get no answer.
func TestPooledErrorBeforeTheSyncSkipsWhatComesLater(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl := p.Connect()
	pool.Send(t, cl, pool.ParseMsg("", "SELECT nothing"), pool.FlushMsg)
	wantTold(t, cl, "error:42703")
	pool.Send(t, cl, pool.ParseMsg("s", "SELECT 1"), pool.BindMsg("s"), pool.ExecuteMsg, &pgproto3.Query{String: "SELECT 'never'"}, pool.SyncMsg)
	wantTold(t, cl, "ready:I")
	pool.Send(t, cl, pool.ParseMsg("s", "SELECT 2"), pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg)
	wantTold(t, cl, "ParseComplete BindComplete row:2 done:SELECT_1 ready:I")
	if got := pool.MustQuery(t, p.Connect(), "SELECT 'free'")[0][0]; got != "free" {
		t.Error(got)
	}
}

func TestPooledProtocolsMixInATransaction(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl := p.Connect()
	pool.PrepareStatement(t, cl, "s", "SELECT $1::int + 1")
	pool.MustQuery(t, cl, "BEGIN")
	if got := pool.RunPrepared(t, cl, "s", "41"); got != "42" || cl.Status != 'T' {
		t.Errorf("%s, status %c", got, cl.Status)
	}
	pool.Send(t, cl, &pgproto3.FunctionCall{Function: 1397, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("-7")}, ResultFormatCode: 0}) // abs(int4)
	if got := pool.Told(t, cl, "ready"); got != "FunctionCallResponse ready:T" {
		t.Error(got)
	}
	if _, err := pool.Query(cl, "SELECT 1/0"); pgtest.Code(err) != "22012" || cl.Status != 'E' {
		t.Errorf("%v, status %c", err, cl.Status)
	}
	if _, err := cl.ExecPrepared(t.Context(), "s", "1"); pgtest.Code(err) != "25P02" {
		t.Error(err)
	}
	if err := cl.Prepare(t.Context(), "new", "SELECT $1::int + 1"); pgtest.Code(err) != "25P02" {
		t.Errorf("Parse in a failed transaction: %v", err)
	}
	pool.MustQuery(t, cl, "ROLLBACK")
	pool.PrepareStatement(t, cl, "new", "SELECT $1::int + 1")
	if got := pool.RunPrepared(t, cl, "new", "1"); got != "2" {
		t.Error(got)
	}
}

func TestPooledCopyByEachWay(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE copied (i int); CREATE TABLE copied2 (i int)")
	p := pool.TxPool(t, c, 1, nil)
	cl, other := p.Connect(), p.Connect()
	one, bad, end, fail := &pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyData{Data: []byte("x\n")}, &pgproto3.CopyDone{}, &pgproto3.CopyFail{Message: "no"}
	extended := []pgproto3.FrontendMessage{pool.ParseMsg("", "COPY copied FROM STDIN"), pool.BindMsg(""), pool.ExecuteMsg}
	begun := "ParseComplete BindComplete CopyInResponse "
	for _, test := range []struct {
		name string
		say  []pgproto3.FrontendMessage
		want string
	}{
		{"query", []pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY copied FROM STDIN"}, one, one, end}, "CopyInResponse done:COPY_2 ready:I"},
		{"query, client gives up", []pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY copied FROM STDIN"}, one, fail}, "CopyInResponse error:57014 ready:I"},
		{"query, bad data and more of it late", []pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY copied FROM STDIN"}, bad, one, one, one, end}, "CopyInResponse error:22P02 ready:I"},
		{
			"two in a query",
			[]pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY copied FROM STDIN; COPY copied2 FROM STDIN; SELECT 'end'"}, one, end, one, one, end},
			"CopyInResponse done:COPY_1 CopyInResponse done:COPY_2 RowDescription row:end done:SELECT_1 ready:I",
		},
		{"as libpq does", append(extended, pool.SyncMsg, one, end, pool.SyncMsg), begun + "done:COPY_1 ready:I"},
		{"one Sync", append(extended, one, end, pool.SyncMsg), begun + "done:COPY_1 ready:I"},
		{"as libpq does, bad data", append(extended, pool.SyncMsg, one, bad, one, end, pool.SyncMsg), begun + "error:22P02 ready:I"},
		{"as libpq does, client gives up", append(extended, pool.SyncMsg, one, fail, pool.SyncMsg), begun + "error:57014 ready:I"},
		{"a Sync in the data", append(extended, pool.SyncMsg, one, pool.SyncMsg, one, end, pool.SyncMsg), begun + "done:COPY_2 ready:I"},
		{"pipelined behind", append(extended, pool.SyncMsg, one, end, pool.SyncMsg, pool.ParseMsg("", "SELECT 'next'"), pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg), begun + "done:COPY_1 ready:I | ParseComplete BindComplete row:next done:SELECT_1 ready:I"},
		{"out", []pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY (SELECT 1) TO STDOUT"}}, "CopyOutResponse CopyData CopyDone done:COPY_1 ready:I"},
		{"out, extended", []pgproto3.FrontendMessage{pool.ParseMsg("", "COPY (SELECT 1) TO STDOUT"), pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg}, "ParseComplete BindComplete CopyOutResponse CopyData CopyDone done:COPY_1 ready:I"},
	} {
		for _, wait := range []bool{false, true} {
			say := test.say
			if wait { // for the server's CopyInResponse; the Sync may come late
				for i, m := range say {
					if m == one || m == bad {
						pool.Send(t, cl, say[:i]...)
						head := strings.SplitAfterN(test.want, "CopyInResponse", 2)[0]
						if got := pool.Told(t, cl, "CopyInResponse"); got != head {
							t.Fatalf("%s: told %q, want %q", test.name, got, head)
						}
						pool.Send(t, cl, say[i:]...)
						wantTold(t, cl, strings.TrimPrefix(test.want, head+" "))
						say = nil
						break
					}
				}
			}
			if say != nil {
				pool.Send(t, cl, say...)
				t.Log(test.name)
				wantTold(t, cl, test.want)
			}
			// The backend is free and works.
			if got := pool.MustQuery(t, other, "SELECT 'other'")[0][0]; got != "other" {
				t.Fatalf("%s: the other client got %s", test.name, got)
			}
		}
	}
}

// Bytes come in pieces of various sizes, in both directions.
func TestPooledMessagesAreSplitAnywhere(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	proxy := pgtest.NewProxy(t, c.Primary().Addr())
	p := pool.Start(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: proxy.Port()}},
		Keys:    map[string]string{"pipeline": "transaction", "max_connections": "2", "workers": "1"},
	})
	front := pgtest.NewProxy(t, p.Config("", "", "").Addr)
	cfg := p.Config("postgres", "", "postgres")
	cfg.Addr = front.Addr()
	cl := p.ConnectAs(cfg)
	for size := 1; size <= 23; size++ {
		front.Split(size)
		proxy.Split(1 + size%5)
		name := fmt.Sprint("s", size)
		pool.Send(t, cl, pool.ParseMsg(name, "SELECT $1::text"), pool.BindMsg(name, name), pool.ExecuteMsg, pool.SyncMsg,
			&pgproto3.Query{String: "BEGIN"}, pool.BindMsg(name, "x"), pool.ExecuteMsg, pool.SyncMsg, &pgproto3.Query{String: "COMMIT"},
			&pgproto3.Close{ObjectType: 'S', Name: name}, pool.SyncMsg)
		wantTold(t, cl, "ParseComplete BindComplete row:"+name+" done:SELECT_1 ready:I | done:BEGIN ready:T | "+
			"BindComplete row:x done:SELECT_1 ready:T | done:COMMIT ready:I | CloseComplete ready:I")
	}
}

func TestPooledResultOf100MBNeedsLittleMemory(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	cl := p.Connect()
	before := pool.PeakMemory(t, p.Workers()[0])
	pool.Send(t, cl, &pgproto3.Query{String: "SELECT repeat('x', 1000000) FROM generate_series(1, 100)"})
	n := 0
	for {
		m, err := cl.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := m.(*pgproto3.DataRow); ok {
			n += len(row.Values[0])
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			break
		}
	}
	if n != 100e6 {
		t.Errorf("%d bytes", n)
	}
	arg := strings.Repeat("y", 50<<20)
	res, err := cl.Exec(t.Context(), "SELECT length($1)", arg)
	if got := pool.Cell(t, res, err); got != fmt.Sprint(50<<20) {
		t.Errorf("argument of %s bytes", got)
	}
	if grown := pool.PeakMemory(t, p.Workers()[0]) - before; grown > 48<<20 {
		t.Errorf("the worker grew by %d MB", grown>>20)
	}
}

// A client that sends queries and reads no answer doesn't fill the worker's memory.
func TestPooledClientThatDoesNotReadIsNotListenedTo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	cl := p.Connect()
	before := pool.PeakMemory(t, p.Workers()[0])
	q, _ := (&pgproto3.Query{String: "SELECT repeat('x', 7000)"}).Encode(nil)
	const queries = 12000
	written := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < queries && err == nil; i++ { // each query is a write and a transaction of its own
			_, err = cl.Conn().Write(q)
		}
		written <- err
	}()
	// Another client is served meanwhile, for many queries.
	other := p.Connect()
	for range 2000 {
		pool.MustQuery(t, other, "SELECT 1")
	}
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	for range queries {
		if _, err := cl.ReadResult(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if grown := pool.PeakMemory(t, p.Workers()[0]) - before; grown > 40<<20 {
		t.Errorf("the worker grew by %d MB for a client that didn't read", grown>>20)
	}
}
