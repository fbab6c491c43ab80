package client

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A session works the same if its bytes come one at a time, in both directions and on
// both sides of the pool.
func TestMessagesMaySplitAtEveryByte(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	behind := pgtest.NewProxy(t, c.Primary().Addr())
	behind.Split(1)
	p := pool.Start(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: behind.Port()}},
		Keys:    map[string]string{"max_connections": "1", "workers": "1", "authentication_timeout": "60s"},
	})
	before := pgtest.NewProxy(t, p.Config("", "", "").Addr)
	before.Split(1)
	cfg := p.Config("postgres", "", "postgres")
	cfg.Addr = before.Addr()
	for i := range 3 {
		cl := p.ConnectAs(cfg)
		want := fmt.Sprintf("round %d", i)
		if got := pool.MustQuery(t, cl, "SELECT '"+want+"'")[0][0]; got != want {
			t.Errorf("simple: %q", got)
		}
		res, err := cl.Exec(t.Context(), "SELECT $1::text || g FROM generate_series(1, 20) g", want)
		if err != nil || len(res.Rows) != 20 || res.Rows[19][0] != want+"20" {
			t.Errorf("extended: %v %v", res, err)
		}
		_, err = pool.Query(cl, "SELECT 1/0")
		pool.WantCode(t, err, "22012", "division by zero")
		pool.MustQuery(t, cl, "SET work_mem TO '7MB'")
		cl.Close() // Terminate comes in pieces, too
	}
}

// All messages of a session, the start-up packet included, come in one segment.
func TestMessagesMayBeJoined(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	conn := p.DialRaw()
	all := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres"})
	for i := range 100 {
		all = append(all, pool.Encode(t, &pgproto3.Query{String: fmt.Sprintf("SELECT 'row %d'", i)})...)
	}
	all = append(all, pool.Encode(t, &pgproto3.Query{String: "SELECT 'last'"})...)
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	fe := pgproto3.NewFrontend(conn, conn)
	n := 0
	for {
		msg, err := fe.Receive()
		if err != nil {
			t.Fatal(err)
		}
		row, ok := msg.(*pgproto3.DataRow)
		if !ok {
			continue
		}
		if string(row.Values[0]) == "last" {
			break
		}
		if got, want := string(row.Values[0]), fmt.Sprintf("row %d", n); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		n++
	}
	if n != 100 {
		t.Errorf("%d answers", n)
	}
}

// A client reads slowly a result that is far larger than any buffer.
func TestLargeResultForASlowReaderCostsLittleMemory(t *testing.T) {
	t.Parallel()
	for _, how := range [][2]string{{"auto", "session"}, {"epoll", "session"}, {"auto", "transaction"}, {"epoll", "transaction"}} {
		t.Run(how[0]+" "+how[1], func(t *testing.T) {
			t.Parallel()
			const rows, width = 50_000, 1000
			c := pgtest.New(t, pgtest.Options{})
			p := pool.OnePlace(t, c, map[string]string{"ev_backend": how[0], "pipeline": how[1]})
			other := p.Workers()[0]
			cl := p.Connect()
			pool.MustQuery(t, cl, "SELECT 1")
			was := pool.PeakMemory(t, other)
			err := cl.Send(t.Context(), &pgproto3.Query{String: fmt.Sprintf("SELECT lpad(g::text, %d, '.') FROM generate_series(1, %d) g", width, rows)})
			if err != nil {
				t.Fatal(err)
			}
			// The server fills all buffers to a client that doesn't read: everybody
			// waits.
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'", "1")
			n := 0
			for done := false; !done; {
				msg, err := cl.Receive(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				switch m := msg.(type) {
				case *pgproto3.DataRow:
					n++
					if got := strings.TrimLeft(string(m.Values[0]), "."); len(m.Values[0]) != width || got != fmt.Sprint(n) {
						t.Fatalf("row %d is %q, %d bytes", n, got, len(m.Values[0]))
					}
				case *pgproto3.ReadyForQuery:
					done = true
				}
			}
			if n != rows {
				t.Errorf("%d rows", n)
			}
			// The buffers that io_uring fills are 20 MiB, once and for all clients.
			if grown := pool.PeakMemory(t, other) - was; grown > 30<<20 {
				t.Errorf("the worker has grown by %d MiB for a result of 50 MB", grown>>20)
			}
		})
	}
}

func TestCopyOf20MBGoesBothWays(t *testing.T) {
	t.Parallel()
	for _, loop := range []string{"auto", "epoll"} {
		t.Run(loop, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			pool.AskNode(t, c.Primary(), "CREATE TABLE lines(i int, s text)")
			p := pool.OnePlace(t, c, map[string]string{"ev_backend": loop})
			cl := p.Connect()
			var data bytes.Buffer
			for i := range 20_000 {
				fmt.Fprintf(&data, "%d\t%s\n", i, strings.Repeat("x", 1000))
			}
			msgs := []pgproto3.FrontendMessage{&pgproto3.Query{String: "COPY lines FROM STDIN"}}
			for b := data.Bytes(); len(b) > 0; b = b[min(len(b), 70_001):] {
				msgs = append(msgs, &pgproto3.CopyData{Data: b[:min(len(b), 70_001)]})
			}
			res, err := cl.RoundTrip(t.Context(), append(msgs, &pgproto3.CopyDone{})...)
			if err != nil || len(res.Tags) != 1 || res.Tags[0] != "COPY 20000" {
				t.Fatalf("%v %v", res, err)
			}
			if err := cl.Send(t.Context(), &pgproto3.Query{String: "COPY (SELECT * FROM lines ORDER BY i) TO STDOUT"}); err != nil {
				t.Fatal(err)
			}
			var back bytes.Buffer
			for done := false; !done; {
				msg, err := cl.Receive(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				switch m := msg.(type) {
				case *pgproto3.CopyData:
					back.Write(m.Data)
				case *pgproto3.ReadyForQuery:
					done = true
				}
			}
			if !bytes.Equal(back.Bytes(), data.Bytes()) {
				t.Errorf("%d bytes went in, %d others came back", data.Len(), back.Len())
			}
			pid := pool.BackendPID(t, cl)
			cl.Close()
			if got := pool.BackendPID(t, p.Connect()); got != pid {
				t.Error("the backend isn't reused after COPY")
			}
		})
	}
}

// An error in a pipelined batch skips to its Sync, and no further.
func TestErrorInAPipelineSkipsToTheNextSync(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	cl := p.Connect()
	pid := pool.BackendPID(t, cl)
	var msgs []pgproto3.FrontendMessage
	for i := range 30 {
		sql := fmt.Sprintf("SELECT 'batch %d'", i)
		if i%3 == 1 {
			sql = "SELECT 1/0"
		}
		msgs = append(msgs, &pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{},
			&pgproto3.Parse{Query: "SELECT 'second'"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	}
	if err := cl.Send(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		res, err := cl.ReadResult(t.Context())
		if i%3 == 1 {
			pool.WantCode(t, err, "22012", "")
			if len(res.Rows) != 0 {
				t.Errorf("batch %d: rows %v behind the error", i, res.Rows)
			}
			continue
		}
		if err != nil || len(res.Rows) != 2 || res.Rows[0][0] != fmt.Sprintf("batch %d", i) || res.Rows[1][0] != "second" {
			t.Errorf("batch %d: %v %v", i, res, err)
		}
	}
	cl.Close()
	if got := pool.BackendPID(t, p.Connect()); got != pid {
		t.Error("the backend isn't reused after the pipeline")
	}
}

func TestNoticesParametersAndNotificationsReachTheClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	cl := p.Connect()
	err := cl.Send(t.Context(), &pgproto3.Query{
		String: "DO $$ BEGIN RAISE NOTICE 'hear this'; END $$; SET application_name TO 'renamed'; LISTEN news; NOTIFY news, 'here'",
	})
	if err != nil {
		t.Fatal(err)
	}
	var notice, notification string
	for ready := false; !ready || notification == ""; {
		msg, err := cl.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *pgproto3.NoticeResponse:
			notice = m.Message
		case *pgproto3.NotificationResponse:
			notification = m.Payload
		case *pgproto3.ReadyForQuery:
			ready = true
		}
	}
	if notice != "hear this" || notification != "here" || cl.Params["application_name"] != "renamed" {
		t.Errorf("notice %q, notification %q, application_name %q", notice, notification, cl.Params["application_name"])
	}
	// This message comes while no query runs.
	pool.AskNode(t, c.Primary(), "NOTIFY news, 'unasked'")
	msg, err := cl.Receive(t.Context())
	if n, ok := msg.(*pgproto3.NotificationResponse); err != nil || !ok || n.Payload != "unasked" {
		t.Errorf("got %T %v", msg, err)
	}
}

// A client that breaks the protocol gets an error, and its backend isn't used again.
func TestClientThatBreaksTheProtocolIsDisconnected(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	for name, b := range map[string][]byte{
		"unknown type": []byte("!\x00\x00\x00\x04"), "length of 3": []byte("Q\x00\x00\x00\x03"),
		"negative length": []byte("Q\xff\xff\xff\xff"), "password": []byte("p\x00\x00\x00\x05\x00"),
	} {
		cl := p.Connect()
		pool.SendRaw(t, cl, b)
		if err := cl.Conn().SetReadDeadline(time.Now().Add(pool.Generous)); err != nil {
			t.Fatal(err)
		}
		if code, _ := pool.ErrorIn(t, pool.ReadToEnd(t, cl.Conn())); code != "08P01" {
			t.Errorf("%s: code %s", name, code)
		}
		next := p.Connect()
		pool.MustQuery(t, next, "SELECT 1")
		next.Close()
	}
}

func TestUnixSocketsOnBothSides(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	p := pool.Start(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}})
	for _, cfg := range []pgtest.ClientConfig{p.UnixConfig("postgres", "", "postgres"), p.Config("postgres", "", "postgres")} {
		cl := p.ConnectAs(cfg)
		if got := pool.MustQuery(t, cl, "SELECT inet_server_addr() IS NULL")[0][0]; got != "t" {
			t.Error("the server is not reached through its Unix socket")
		}
		if got := pool.BackendPID(t, cl); got != fmt.Sprint(cl.PID) {
			t.Errorf("key of %d for backend %s", cl.PID, got)
		}
		pool.WaitSleeping(t, n, cl)
		if err := cl.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := cl.ReadResult(t.Context())
		pool.WantCode(t, err, "57014", "")
	}
}
