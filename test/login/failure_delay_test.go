package login

import (
	"context"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// The answer to a wrong password is late, whoever has checked the password and whether the user exists.
func TestAuthFailureDelay(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: []string{
		"host all alice,bob,nobody 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust",
	}})
	pool.AskNode(t, c.Primary(), "CREATE ROLE alice LOGIN PASSWORD 'right'; CREATE ROLE bob LOGIN PASSWORD 'right'")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right", "postgres": "unused"},
		HBA:  "host all postgres all trust\nlocal all all scram-sha-256\nhost all all all scram-sha-256\n",
		Keys: map[string]string{"auth_failure_delay": "100ms", "workers": "1"},
	})
	least := 100 * time.Millisecond
	for _, user := range []string{"alice", "bob", "nobody", "alice"} {
		begun := time.Now()
		err := p.WantRefused(p.Config(user, "wrong", "postgres"))
		pool.WantCode(t, err, "28P01", `password authentication failed for user "`+user+`"`)
		if took := time.Since(begun); took < least {
			t.Errorf("%s has the answer after %v, want %v at least", user, took, least)
		}
		least *= 2
	}
	p.SetKey("auth_failure_delay", "10s")
	if out, _, code := p.CLI("conf", "reload"); code != 0 {
		t.Fatal(out)
	}
	guessOn(t, p)
}

// guessOn has as many clients guess as an address may. The address must then wait, others must not.
func guessOn(t *testing.T, p *pool.Pool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	const most = 16
	answers := make(chan error, most)
	for i := range most {
		user := []string{"alice", "bob"}[i%2]
		go func() {
			_, err := pgtest.Connect(ctx, p.Config(user, "wrong", "postgres"))
			answers <- err
		}()
	}
	const refusal = "too many logins from this address have failed"
	pgtest.WaitUntil(t, pool.Generous, refusal, func() bool {
		cl, err := p.Try(p.Config("alice", "right", "postgres"))
		if err == nil {
			cl.Close()
			return false
		}
		pool.WantCode(t, err, "53300", refusal)
		return true
	})
	pool.WantCode(t, p.WantRefused(p.Config("bob", "right", "postgres")), "53300", refusal)
	p.ConnectAs(p.UnixConfig("alice", "right", "postgres"))
	p.Connect() // without a password
	if len(answers) > 0 {
		t.Errorf("a wrong password is answered at once: %v", <-answers)
		answers <- nil
	}
	cancel()
	for range most {
		<-answers
	}
	// That the clients have left makes no difference.
	pool.WantCode(t, p.WantRefused(p.Config("alice", "right", "postgres")), "53300", refusal)
}
