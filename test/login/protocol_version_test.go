package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

const asPostgres = "user\x00postgres\x00database\x00postgres\x00"

// The expected answers are those of PostgreSQL 18, which supports 3.2 and no protocol
// option.
func TestProtocolVersionIsNegotiated(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, pipeline := range []string{"session", "transaction"} {
		p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"pipeline": pipeline}})
		for _, test := range []struct {
			minor   uint32
			options string
			types   string
			version uint32
			secret  int
		}{
			{0, "", "RZ", 0, 4},
			{1, "", "RZ", 0, 4},
			{2, "", "RZ", 0, 32},
			{3, "", "vRZ", v3 + 2, 32},
			{9999, "", "vRZ", v3 + 2, 32},
			{0, "_pq_.command_tag", "vRZ", v3, 4},
			{2, "_pq_.command_tag", "vRZ", v3 + 2, 32},
			{65535, "_pq_.a,_pq_.b", "vRZ", v3 + 2, 32},
		} {
			body := asPostgres
			for _, o := range strings.Split(test.options, ",") {
				if o != "" {
					body += o + "\x00on\x00"
				}
			}
			conn := p.DialRaw()
			w := loginRaw(t, conn, whole(v3+test.minor, body+"\x00"))
			got := fmt.Sprintln(w.types, w.version, w.unknown, len(w.secret))
			if want := fmt.Sprintln(test.types, test.version, test.options, test.secret); got != want {
				t.Errorf("%s 3.%d %s: got %s, want %s", pipeline, test.minor, test.options, got, want)
			}
			if got, err := w.value("SELECT 'fine'"); err != nil || got != "fine" {
				t.Errorf("%s 3.%d: %s, %v", pipeline, test.minor, got, err)
			}
			conn.Close()
		}
	}
}

// A long key cancels its own query through any worker; a part of the key cancels
// nothing.
func TestLongKeyCancels(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, pipeline := range []string{"session", "transaction"} {
		p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"pipeline": pipeline}})
		w := loginRaw(t, p.DialRaw(), whole(v3+2, asPostgres+"\x00"))
		done := make(chan error, 1)
		go func() {
			_, err := w.value("SELECT pg_sleep(600)")
			done <- err
		}()
		asleep := "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
		pool.WaitNode(t, c.Primary(), asleep, "1")
		cancel := func(secret []byte) {
			for range 4 { // several, so that each of two workers gets some
				if err := pgtest.SendCancel(t.Context(), p.Config("", "", ""), w.pid, secret); err != nil {
					t.Fatal(err)
				}
			}
		}
		wrong := bytes.Clone(w.secret)
		wrong[31] ^= 1
		for _, secret := range [][]byte{w.secret[:4], w.secret[28:], w.secret[:31], append(bytes.Clone(w.secret), 0), wrong, make([]byte, 256)} {
			cancel(secret)
		}
		if got := pool.AskNode(t, c.Primary(), asleep); got != "1" {
			t.Errorf("%s: a wrong key has cancelled the query", pipeline)
		}
		cancel(w.secret)
		pool.WantCode(t, <-done, "57014", "canceling statement")
	}
}

func TestReplicationIsRefusedWithAHint(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, pipeline := range []string{"session", "transaction", "performance"} {
		p := pool.OnePlace(t, c, map[string]string{"pipeline": pipeline})
		for _, value := range []string{"true", "on", "1", "yes", "database", "T"} {
			conn := p.DialRaw()
			if _, err := conn.Write(whole(v3, asPostgres+"replication\x00"+value+"\x00\x00")); err != nil {
				t.Fatal(err)
			}
			said := pool.ReadToEnd(t, conn)
			if code, text := pool.ErrorIn(t, said); code != "0A000" || !strings.Contains(text, "replication connections are not supported") {
				t.Errorf("%s %s: %s %s", pipeline, value, code, text)
			}
			if !bytes.Contains(said, []byte("HConnect to the server itself.\x00")) {
				t.Errorf("%s %s: no hint in %q", pipeline, value, said)
			}
		}
		first := p.Connect()
		pid := pool.BackendPID(t, first)
		first.Close()
		for _, value := range []string{"false", "off", "0", "no", "F"} {
			conn := p.DialRaw()
			w := loginRaw(t, conn, whole(v3, asPostgres+"replication\x00"+value+"\x00\x00"))
			if got, err := w.value("SELECT pg_backend_pid()"); err != nil || got != pid {
				t.Errorf("%s %s: %s, %v: a pool of its own", pipeline, value, got, err)
			}
			conn.Close()
		}
	}
}

// value runs a query and returns its only value, or the error as text.
func (w welcomed) value(sql string) (string, error) {
	w.afterLogin.Send(&pgproto3.Query{String: sql})
	if err := w.afterLogin.Flush(); err != nil {
		return "", err
	}
	var value string
	var failed error
	for {
		msg, err := w.afterLogin.Receive()
		if err != nil {
			return "", err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			value = string(m.Values[0])
		case *pgproto3.ErrorResponse:
			failed = &pgtest.ServerError{Severity: m.SeverityUnlocalized, Code: m.Code, Message: m.Message}
		case *pgproto3.ReadyForQuery:
			return value, failed
		}
	}
}

// A client that starts with a TLS handshake is disconnected instead of left waiting,
// and the log says why.
func TestTLSWithoutAskingIsEndedAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"authentication_timeout": "60s"})
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.Config("", "", "").Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	if err == nil || time.Since(began) > pool.Generous/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	const why = "TLS without an SSLRequest, and TLS is not offered"
	p.WaitLog(why)
	if n := strings.Count(p.Log(), why); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}
