package client

import (
	"context"
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestKeyOfTheClientNamesItsBackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	for range 4 {
		cl := p.Connect()
		if got := pool.BackendPID(t, cl); got != fmt.Sprint(cl.PID) {
			t.Errorf("BackendKeyData names %d, the backend is %s", cl.PID, got)
		}
	}
}

// The connection with the cancel request may land on any worker.
func TestCancelEndsTheQueryThroughAnyWorker(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	a, b := p.Connect(), p.Connect()
	for i := range 10 {
		for _, cl := range []*pgtest.Client{a, b} {
			pool.WaitSleeping(t, c.Primary(), cl)
			if err := cl.Cancel(t.Context()); err != nil {
				t.Fatalf("attempt %d: %v", i, err)
			}
			_, err := cl.ReadResult(t.Context())
			pool.WantCode(t, err, "57014", "canceling statement due to user request")
			if got := pool.MustQuery(t, cl, "SELECT 1")[0][0]; got != "1" {
				t.Errorf("after the cancel: %s", got)
			}
		}
	}
}

func TestWrongSecretCancelsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	victim, other := p.Connect(), p.Connect()
	pool.WaitSleeping(t, c.Primary(), victim)
	secret := append([]byte(nil), victim.Secret...)
	secret[3] ^= 1
	cfg := p.Config("", "", "")
	for _, wrong := range []struct {
		pid    uint32
		secret []byte
	}{
		{victim.PID, secret},
		{victim.PID, make([]byte, 4)},
		{other.PID, victim.Secret},
		{victim.PID, other.Secret},
		{victim.PID, append(append([]byte(nil), victim.Secret...), 0)},
		{victim.PID, make([]byte, 256)},
	} {
		for range 2 {
			if err := pgtest.SendCancel(t.Context(), cfg, wrong.pid, wrong.secret); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Each request had been handled by the time its connection was closed.
	want := fmt.Sprintf("SELECT state FROM pg_stat_activity WHERE pid = %d", victim.PID)
	if got := pool.AskNode(t, c.Primary(), want); got != "active" {
		t.Errorf("the victim is %s", got)
	}
	if err := victim.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := victim.ReadResult(t.Context())
	pool.WantCode(t, err, "57014", "")
}

// The client must not get the server's own key: with it a client could cancel queries
// of its successor on the backend.
func TestServersOwnKeyIsNotGivenAway(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	first := p.Connect()
	pid, secret := first.PID, append([]byte(nil), first.Secret...)
	first.Close()
	next := p.Connect()
	if next.PID != pid {
		t.Fatalf("backend %d instead of %d", next.PID, pid)
	}
	pool.WaitSleeping(t, c.Primary(), next)
	for _, cfg := range []pgtest.ClientConfig{p.Config("", "", ""), c.Primary().Config("", "", "")} {
		if err := pgtest.SendCancel(t.Context(), cfg, pid, secret); err != nil {
			t.Fatal(err)
		}
	}
	if got := pool.AskNode(t, c.Primary(), fmt.Sprintf("SELECT state FROM pg_stat_activity WHERE pid = %d", pid)); got != "active" {
		t.Errorf("the key of the client before has cancelled: the query is %s", got)
	}
	if err := next.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := next.ReadResult(t.Context())
	pool.WantCode(t, err, "57014", "")
}

// A client cancels and leaves at once, many times: the signal never reaches
// what the next client does on the same backend.
func TestCancelOfAnIdleSessionDoesNotHitTheNextClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	for range 30 {
		cl := p.Connect()
		pool.MustQuery(t, cl, "SELECT 1")
		done := make(chan error, 1)
		go func() { done <- pgtest.SendCancel(context.Background(), p.Config("", "", ""), cl.PID, cl.Secret) }()
		cl.Close()
		next := p.Connect()
		for range 3 {
			pool.MustQuery(t, next, "SELECT pg_sleep(0.002)")
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		next.Close()
	}
}
