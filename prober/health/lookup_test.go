package health

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

const (
	byName      = "SELECT rolpassword FROM pg_authid WHERE rolname = $1"
	lookUpConns = " FROM pg_stat_activity WHERE application_name = '" + lookUpName + "'"
)

func newLookUps(t *testing.T, idle time.Duration) *LookUps {
	t.Helper()
	x := NewLookUps()
	x.idle = idle
	t.Cleanup(x.Close)
	return x
}

// connections waits until the server shows so many connections of look-ups.
func connections(t *testing.T, n *pgtest.Node, want string) {
	t.Helper()
	var got string
	pgtest.WaitUntil(t, ample, want+" connections", func() bool {
		got = query(t, n, "SELECT count(*)"+lookUpConns)
		return got == want
	}, func() string { return got })
}

func TestStoredPasswordsAreLookedUp(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{HBA: hba})
	addUsers(t, c)
	n := c.Primary()
	x := newLookUps(t, ample)
	ask := func(statement, user string, keep int) (string, error) {
		return x.Stored(t.Context(), x.Turn(0), at(n, super), statement, user, keep)
	}
	t.Run("what is stored", func(t *testing.T) {
		for user, want := range map[string]bool{"scram": true, "plain": false, "nobody": false, "' OR true --": false, "\xff": false, "a\x00b": false} {
			got, err := ask(byName, user, 2)
			if err != nil || strings.HasPrefix(got, "SCRAM-SHA-256$") != want {
				t.Errorf("%q: %q, %v", user, got, err)
			}
		}
		if got, err := ask("SELECT 'left', $1::text", "u", 2); got != "u" || err != nil {
			t.Errorf("the last column is %q, %v", got, err)
		}
	})
	t.Run("what isn't one", func(t *testing.T) {
		for statement, want := range map[string]string{
			"SELECT rolname FROM pg_authid WHERE rolname <> $1": "more than one row",
			"SELECT WHERE $1 <> ''":                             "no column",
			"SELECT repeat($1, 2000)":                           "more than a stored password",
			"SELECT 1/0 WHERE $1 <> ''":                         "the statement fails: ERROR 22012: division by zero",
			"nonsense":                                          "42601",
		} {
			if _, err := ask(statement, "u", 2); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", statement, err, want)
			}
		}
		connections(t, n, "1") // an error doesn't cost the connection
	})
	t.Run("the time of the first look-up isn't that of later ones", func(t *testing.T) {
		got, err := ask("SELECT current_setting('statement_timeout') || $1", "", 2)
		if want := "10s"; got != want || err != nil {
			t.Errorf("statement_timeout is %q, %v, want %q", got, err, want)
		}
	})
	t.Run("a database that doesn't exist", func(t *testing.T) {
		target := at(n, super)
		target.Logins[0].Database = "nowhere"
		_, err := x.Stored(t.Context(), x.Turn(0), target, byName, "scram", 2)
		if !NoDatabase(err) {
			t.Errorf("%v", err)
		}
		if _, err := ask("nonsense", "u", 2); NoDatabase(err) {
			t.Errorf("another error: %v", err)
		}
	})
	t.Run("no more connections than may be kept", func(t *testing.T) {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := ask("SELECT pg_sleep(0.1)::text || $1", "u", 2); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		connections(t, n, "2")
	})
	t.Run("idle connections of one kind make room for another", func(t *testing.T) {
		x.begin(sessionOf{server: 7}, 2)
		if x.used != 1 || len(x.free) != 1 {
			t.Errorf("%d in use, %d free", x.used, len(x.free))
		}
		x.forget()
		connections(t, n, "1")
	})
	t.Run("a connection that was killed is replaced", func(t *testing.T) {
		query(t, n, "SELECT pg_terminate_backend(pid)"+lookUpConns)
		connections(t, n, "0")
		if got, err := ask(byName, "scram", 2); err != nil || got == "" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("a stop closes all of the server", func(t *testing.T) {
		failed := make(chan error, 1)
		go func() {
			_, err := ask("SELECT pg_sleep(600)::text || $1", "u", 2)
			failed <- err
		}()
		pgtest.WaitUntil(t, ample, "a look-up under way", func() bool {
			return query(t, n, "SELECT count(*)"+lookUpConns+" AND wait_event = 'PgSleep'") == "1"
		})
		x.Stop(1)
		x.Stop(0)
		if err := <-failed; !errors.Is(err, errStopped) {
			t.Errorf("a look-up under way: %v", err)
		}
		query(t, n, "SELECT pg_terminate_backend(pid)"+lookUpConns+" AND wait_event = 'PgSleep'")
		connections(t, n, "0")
		if got, err := ask(byName, "scram", 2); err != nil || got == "" {
			t.Errorf("the next one: %q, %v", got, err)
		}
	})
	t.Run("what was asked before a stop is not looked up after it", func(t *testing.T) {
		turn := x.Turn(0)
		x.Stop(0)
		if got, err := x.Stored(t.Context(), turn, at(n, super), byName, "scram", 2); !errors.Is(err, errStopped) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("a stop ends a login that hangs", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		silent := at(n, super)
		silent.Address, silent.Timeout = ln.Addr().String(), time.Hour
		turn, failed := x.Turn(5), make(chan error, 1)
		go func() {
			_, err := x.Stored(t.Context(), turn, silent, byName, "scram", 2)
			failed <- err
		}()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		x.Stop(5)
		if err := <-failed; !errors.Is(err, errStopped) {
			t.Error(err)
		}
	})
	t.Run("a look-up ends in time", func(t *testing.T) {
		short := at(n, super)
		short.Timeout = 300 * time.Millisecond
		if _, err := x.Stored(t.Context(), x.Turn(1), short, "SELECT pg_sleep(600)::text || $1", "u", 2); err == nil {
			t.Error("no error")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := x.Stored(ended, x.Turn(1), at(n, super), byName, "u", 2); err == nil {
			t.Error("no error of a context that has ended")
		}
		if _, err := x.Stored(t.Context(), x.Turn(1), at(n), byName, "u", 2); err == nil {
			t.Error("no error without a login")
		}
		if _, err := x.Stored(t.Context(), x.Turn(1), at(n, Login{User: "nobody", Database: "postgres"}), byName, "u", 2); err == nil {
			t.Error("no error of a refused login")
		}
	})
}

func TestIdleConnectionsOfLookUpsAreClosed(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{HBA: hba})
	x := newLookUps(t, 50*time.Millisecond)
	if _, err := x.Stored(t.Context(), x.Turn(0), at(c.Primary(), super), byName, "u", 2); err != nil {
		t.Fatal(err)
	}
	connections(t, c.Primary(), "0")
}
