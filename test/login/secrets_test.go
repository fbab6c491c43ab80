package login

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestANewSaltIsNoRefusalAndANewPasswordIs changes the password at the server of a worker that holds keys of the old
// salt.
func TestANewSaltIsNoRefusalAndANewPasswordIs(t *testing.T) {
	t.Parallel()
	for _, keys := range []map[string]string{
		{"ev_backend": "epoll", "pipeline": "session"},
		{"ev_backend": "epoll", "pipeline": "transaction"},
		{"ev_backend": "io_uring", "pipeline": "session"},
		{"ev_backend": "io_uring", "pipeline": "transaction"},
	} {
		t.Run(keys["ev_backend"]+" "+keys["pipeline"], func(t *testing.T) {
			c := asking(t, "scram-sha-256")
			keys["workers"], keys["max_connections"] = "1", "1"
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, Keys: keys})
			alice := p.Config("alice", "", "postgres")
			served := func() {
				cl := p.ConnectAs(alice)
				if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != "alice" {
					t.Errorf("session user %s", got)
				}
				cl.Close()
			}
			served()
			changePassword(t, c.Primary(), "right") // with a new salt
			served()
			changePassword(t, c.Primary(), "another")
			pool.WantCode(t, firstQuery(p, alice), "28P01", `password authentication failed for user "alice"`)
			changePassword(t, c.Primary(), "right")
			served()
		})
	}
}

// changePassword gives alice a password, and ends her backends so that the pool has to log in again.
func changePassword(t *testing.T, n *pgtest.Node, password string) {
	t.Helper()
	pool.AskNode(t, n, "ALTER ROLE alice PASSWORD '"+password+"'")
	endBackends(t, n)
}

func endBackends(t *testing.T, n *pgtest.Node) {
	t.Helper()
	const hers = "FROM pg_stat_activity WHERE usename = 'alice'"
	pool.AskNode(t, n, "SELECT pg_terminate_backend(pid) "+hers)
	pool.WaitNode(t, n, "SELECT count(*) "+hers, "0")
}

// firstQuery returns why a client isn't served: in the transaction pipeline the login may succeed without a backend.
func firstQuery(p *pool.Pool, cfg pgtest.ClientConfig) error {
	cl, err := p.Try(cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = pool.Query(cl, "SELECT 1")
	return err
}

// TestAUserCanHaveItsServerAskWithAnotherSalt sets a password as PostgreSQL stores it, with one iteration.
func TestAUserCanHaveItsServerAskWithAnotherSalt(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}})
	v, err := auth.NewVerifier("right", []byte("a chosen salt..."), 1)
	pool.Must(t, err)
	cl := p.ConnectAs(p.Config("alice", "", "postgres"))
	pool.MustQuery(t, cl, "ALTER ROLE alice PASSWORD '"+v.Encode()+"'")
	cl.Close()
	changed := "SELECT count(*) FROM pg_authid WHERE rolpassword = '" + v.Encode() + "'"
	pool.WaitNode(t, c.Primary(), changed, "1")
	endBackends(t, c.Primary())
	pool.Must(t, firstQuery(p, p.Config("alice", "", "postgres")))
	p.WaitLog("a server asks for few iterations of SCRAM")
}

// TestTwentyUsersLogInForTheFirstTimeAtOnce has two workers need the keys of all of them, each from the one prober.
func TestTwentyUsersLogInForTheFirstTimeAtOnce(t *testing.T) {
	t.Parallel()
	const users = 20
	c := pgtest.New(t, pgtest.Options{HBA: []string{"host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"}})
	passwords := map[string]string{}
	var roles strings.Builder
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		passwords[name] = "password of " + name
		fmt.Fprintf(&roles, "CREATE ROLE %s LOGIN PASSWORD '%s';", name, passwords[name])
	}
	pool.AskNode(t, c.Primary(), roles.String())
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: passwords, HBA: "host all all all scram-sha-256\n", Keys: map[string]string{"workers": "2"},
	})
	var all sync.WaitGroup
	for name, password := range passwords {
		for range 2 {
			all.Go(func() {
				if err := firstQuery(p, p.Config(name, password, "postgres")); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	all.Wait()
}

// TestAQuestionLeavesNoErrorInTheServersLog has the prober ask, and go away without an answer.
func TestAQuestionLeavesNoErrorInTheServersLog(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"scram-sha-256", "md5", "password"} {
		t.Run(method, func(t *testing.T) {
			c := asking(t, method)
			n := c.Primary()
			pool.Must(t, n.Set(pool.Within(t), "log_connections", "on"))
			pool.Must(t, n.Set(pool.Within(t), "log_disconnections", "on"))
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}})
			p.ConnectAs(p.Config("alice", "", "postgres")).Close()
			p.Stop()
			pool.WaitNode(t, n, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'", "0")
			log, err := os.ReadFile(n.LogFile)
			pool.Must(t, err)
			for line := range strings.Lines(string(log)) {
				hers := strings.Contains(line, "alice@")
				if hers && (strings.Contains(line, "FATAL:") || strings.Contains(line, "ERROR:") || strings.Contains(line, "could not receive")) {
					t.Errorf("the server logs %s", line)
				}
			}
			if !strings.Contains(string(log), "user=alice") {
				t.Error("the server logs no login: the test proves nothing")
			}
		})
	}
}
