package login

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A server's own error at the login reaches the client with detail and hint, whoever has asked the server.
func TestServersErrorAtTheLoginIsPassedOnUnchanged(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE alice LOGIN; CREATE ROLE nologin")
	pool.AskNode(t, c.Primary(), "CREATE DATABASE closed ALLOW_CONNECTIONS false")
	for _, pipeline := range []string{"session", "transaction"} {
		p := pool.Start(t, pool.Setup{
			Servers: pool.Nodes(c), Users: map[string]string{"alice": "unused"}, Keys: map[string]string{"pipeline": pipeline},
		})
		// The backend that the pool has now must be prepared for the client, which fails; others are opened for it.
		p.ConnectAs(p.Config("alice", "", "postgres")).Close()
		for _, user := range []string{"alice", "postgres", "nologin"} {
			for name, params := range map[string]map[string]string{
				"a setting that clients share":       {"IntervalStyle": "bogus"},
				"a setting that makes a pool":        {"client_min_messages": "bogus"},
				"a setting that is no number":        {"work_mem": "1 parsec"},
				"a database without connections":     {"database": "closed"},
				"a database that isn't there":        {"database": "nowhere"},
				"a role without the right to log in": nil,
			} {
				packet := map[string]string{"user": user, "database": "postgres"}
				for k, v := range params {
					packet[k] = v
				}
				if user != "nologin" && params == nil {
					continue
				}
				direct := dial(t, c.Primary().Addr())
				want := refusedRaw(t, direct, pool.StartupPacket(t, packet))
				got := refusedRaw(t, p.DialRaw(), pool.StartupPacket(t, packet))
				// Where SET asks instead of the start-up packet, the place in the server's source differs, and the case of the
				// parameter's name.
				want.Message, got.Message = strings.ToLower(want.Message), strings.ToLower(got.Message)
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(pgproto3.ErrorResponse{}, "File", "Line", "Routine")); diff != "" {
					t.Errorf("%s, %s, %s (-server +pgagroal):\n%s", pipeline, user, name, diff)
				}
			}
		}
	}
}

// refusedRaw sends a start-up packet and returns the error that ends the login. Nothing may follow the error.
func refusedRaw(t *testing.T, conn io.ReadWriter, packet []byte) pgproto3.ErrorResponse {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	fe := pgproto3.NewFrontend(conn, conn)
	for {
		m, err := fe.Receive()
		if err != nil {
			t.Fatalf("the login ends without an error: %v", err)
		}
		e, ok := m.(*pgproto3.ErrorResponse)
		if !ok {
			continue
		}
		refused := *e
		if m, err := fe.Receive(); err == nil {
			t.Errorf("%T follows the error", m)
		}
		return refused
	}
}

// A refusal is one ErrorResponse with the fields that drivers look for, and the connection ends behind it.
func TestRefusalsAreWellFormedOnTheWire(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "right"},
		HBA:  "host template1 all all reject\nhost all eve all trust\nhost all postgres all password\n",
		Keys: map[string]string{"allow_unknown_users": "off"},
	})
	for user, want := range map[string]pgproto3.ErrorResponse{
		"postgres/template1": {
			Code:    "28000",
			Message: `connection refused: pgagroal_hba.conf rejects host "127.0.0.1", user "postgres", database "template1"`,
		},
		"bob/postgres": {Code: "28000", Message: `no pgagroal_hba.conf entry for host "127.0.0.1", user "bob", database "postgres"`},
		"eve/postgres": {Code: "28000", Message: `connection refused: user "eve" is not known to the connection pool`},
		"/postgres":    {Code: "28000", Message: "no PostgreSQL user name specified in startup packet"},
	} {
		name, database, _ := strings.Cut(user, "/")
		want.Severity, want.SeverityUnlocalized = "FATAL", "FATAL"
		got := refusedRaw(t, p.DialRaw(), pool.StartupPacket(t, map[string]string{"user": name, "database": database}))
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", user, diff)
		}
	}
}
