package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A client that sends its start-up packet one byte at a time gets no more time than
// others.
func TestSlowLoginIsEndedInTime(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "secret"}, HBA: "host all all all scram-sha-256\n",
		Keys: map[string]string{"authentication_timeout": "2s"},
	})
	hello := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres", "application_name": "one byte at a time"})
	half := pool.Encode(t, &pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=rOprNGfwEbeRWgbNEkqO")})
	for name, test := range map[string]struct{ atOnce, slowly []byte }{
		"start-up packet": {nil, hello}, "password": {hello, half}, "SSLRequests": {whole(sslReq, ""), hello},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := p.DialRaw()
			began := time.Now()
			if _, err := conn.Write(test.atOnce); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go drip(ctx, conn, test.slowly)
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection wasn't closed")
			}
			if took := time.Since(began); took < limit-limit/10 || took > limit+10*time.Second {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// drip writes a few bytes a second.
func drip(ctx context.Context, conn net.Conn, b []byte) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range b {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

// flood is something that a client may send again and again without reading the
// answers.
type flood struct {
	name string
	// first is sent and answered once; then each block repeats one.
	first, one []pgproto3.FrontendMessage
	// ends is how many ReadyForQuery answer one.
	ends int
}

func floods() []flood {
	named := pool.ParseMsg("s", "SELECT 1")
	return []flood{
		{"Sync", nil, []pgproto3.FrontendMessage{pool.SyncMsg}, 1},
		{"Query", nil, []pgproto3.FrontendMessage{&pgproto3.Query{String: "SELECT repeat('x', 1000)"}}, 1},
		{"Bind", []pgproto3.FrontendMessage{named}, []pgproto3.FrontendMessage{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg}, 1},
		{"Parse", []pgproto3.FrontendMessage{named}, []pgproto3.FrontendMessage{&pgproto3.Close{ObjectType: 'S', Name: "s"}, named}, 0},
	}
}

// Clients that send and never read are held up, cost little, and disturb nobody. When
// they read at last, they get every answer.
func TestFloodsWithoutReadingCostLittle(t *testing.T) {
	t.Parallel()
	for _, how := range [][2]string{{"io_uring", "session"}, {"epoll", "session"}, {"io_uring", "transaction"}, {"epoll", "transaction"}} {
		t.Run(how[0]+" "+how[1], func(t *testing.T) {
			t.Parallel()
			n := pgtest.New(t, pgtest.Options{}).Primary()
			p := pool.Start(t, pool.Setup{
				// Unix sockets on both sides hold little, so that the bytes that are held back are
				// in pgagroal.
				Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}},
				Keys:    map[string]string{"pipeline": how[1], "ev_backend": how[0], "workers": "1", "max_connections": "2"},
			})
			for _, f := range floods() {
				t.Run(f.name, func(t *testing.T) { f.run(t, p) })
			}
		})
	}
}

func (f flood) run(t *testing.T, p *pool.Pool) {
	const most = 64 << 20
	cl, other := p.ConnectAs(p.UnixConfig("postgres", "", "postgres")), p.Connect()
	defer other.Close()
	if _, err := cl.RoundTrip(t.Context(), append(f.first, pool.SyncMsg)...); err != nil {
		t.Fatal(err)
	}
	pool.MustQuery(t, other, "SELECT 1")
	was := pool.PeakMemory(t, p.Workers()[0])
	one := pool.Encode(t, f.one...)
	block := bytes.Repeat(one, max(1, 64<<10/len(one)))
	sent, rest := floodUntilStuck(t, cl.Conn(), block, most)
	if sent >= most {
		t.Errorf("%d MiB were taken from a client that reads nothing", sent>>20)
	}
	if got := pool.MustQuery(t, other, "SELECT 'served'")[0][0]; got != "served" {
		t.Error(got)
	}
	if grown := pool.PeakMemory(t, p.Workers()[0]) - was; grown > 40<<20 {
		t.Errorf("the worker has grown by %d MiB after %d bytes", grown>>20, sent)
	}
	ends := (sent+len(rest))/len(one)*f.ends + 1
	if err := cl.Conn().SetDeadline(time.Now().Add(4 * pool.Generous)); err != nil {
		t.Fatal(err)
	}
	last := append(rest, pool.Encode(t, pool.SyncMsg)...)
	go func() { _, _ = cl.Conn().Write(last) }()
	for ends > 0 {
		m, err := cl.Receive(context.Background()) // within the deadline
		if err != nil {
			t.Fatalf("%d ends are missing: %v", ends, err)
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			ends--
		case *pgproto3.ErrorResponse:
			t.Fatalf("%s %s", m.Code, m.Message)
		}
	}
	if got := pool.MustQuery(t, cl, "SELECT 'in step'")[0][0]; got != "in step" {
		t.Error(got)
	}
	cl.Close()
}

// floodUntilStuck writes blocks until no byte is accepted for a second, or until most
// bytes are written. It returns the number of bytes written and the rest of the last
// block.
func floodUntilStuck(t *testing.T, conn net.Conn, block []byte, most int) (sent int, rest []byte) {
	t.Helper()
	for sent < most {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Write(block)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, append([]byte(nil), block[n:]...)
		}
		if err != nil {
			t.Fatal(fmt.Errorf("after %d bytes: %w", sent, err))
		}
	}
	return sent, nil
}
