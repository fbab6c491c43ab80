package login

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// asking starts a server that asks the role alice for her password with a method.
func asking(t testing.TB, method string) *pgtest.Cluster {
	t.Helper()
	encryption := "scram-sha-256"
	if method == "md5" {
		encryption = "md5"
	}
	c := pgtest.New(t, pgtest.Options{HBA: []string{
		"host all alice 127.0.0.1/32 " + method, "local all alice " + method, "host all all 127.0.0.1/32 trust",
	}})
	pool.AskNode(t, c.Primary(), "SET password_encryption TO '"+encryption+"'; CREATE ROLE alice LOGIN PASSWORD 'right'")
	return c
}

func TestKnownUserProvesItselfToUsAndWeToTheServer(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"scram-sha-256", "md5", "password", "trust"} {
		t.Run(method, func(t *testing.T) {
			c := asking(t, method)
			p := pool.Start(t, pool.Setup{
				Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all scram-sha-256\n",
				Keys: map[string]string{"max_connections": "1", "workers": "1"},
			})
			first := p.ConnectAs(p.Config("alice", "right", "postgres"))
			pid := pool.BackendPID(t, first)
			if got := pool.MustQuery(t, first, "SELECT session_user")[0][0]; got != "alice" {
				t.Errorf("session user %s", got)
			}
			first.Close()
			err := p.WantRefused(p.Config("alice", "wrong", "postgres"))
			pool.WantCode(t, err, "28P01", `password authentication failed for user "alice"`)
			if got := pool.BackendPID(t, p.ConnectAs(p.Config("alice", "right", "postgres"))); got != pid {
				t.Error("the backend isn't reused")
			}
		})
	}
}

func TestUnknownUserIsCheckedByTheServer(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"scram-sha-256", "md5", "password"} {
		t.Run(method, func(t *testing.T) {
			c := asking(t, method)
			p := pool.OnePlace(t, c, nil)
			for range 2 {
				cl := p.ConnectAs(p.Config("alice", "right", "postgres"))
				if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != "alice" {
					t.Errorf("session user %s", got)
				}
				cl.Close()
				pool.WantCode(t, p.WantRefused(p.Config("alice", "wrong", "postgres")), "28P01", `password authentication failed for user "alice"`)
			}
			pool.WantCode(t, p.WantRefused(p.Config("nobody", "", "postgres")), "28000", `role "nobody" does not exist`)
		})
	}
}

// Unknown users that don't answer the server's request for a password don't take the
// places of known users.
func TestSilentLoginsDoNotKeepKnownUsersWaiting(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "unused"},
		Keys: map[string]string{"max_connections": "4", "blocking_timeout": "5s", "authentication_timeout": "5m"},
	})
	const silent = 20
	asked := make(chan error, silent)
	for range silent {
		nc := p.DialRaw()
		if _, err := nc.Write(pool.StartupPacket(t, map[string]string{"user": "alice", "database": "postgres"})); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := nc.Read(make([]byte, 1))
			asked <- err
		}()
		defer func() { nc.Close(); <-asked }()
	}
	err := <-asked
	asked <- err // for the end
	if err != nil {
		t.Fatalf("nobody is asked for a password: %v", err)
	}
	for range 3 {
		p.ConnectAs(p.Config("postgres", "", "postgres"))
	}
	if n := len(asked) - 1; n != 0 {
		t.Errorf("%d more logins hold a connection than the share has room for", n)
	}
}

// With allow_unknown_users = off an unknown user gets the same messages as a known user
// with a wrong password.
func TestUnknownUserIsRefusedLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for _, method := range []string{"all", "scram-sha-256", "password"} {
		for _, frontend := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, frontend users: %v", method, frontend), func(t *testing.T) {
				s := pool.Setup{
					Servers: pool.Nodes(c), Users: map[string]string{"alice": "right", "carol": "right"}, HBA: "host all all all " + method + "\n",
					Keys: map[string]string{"allow_unknown_users": "off"},
				}
				if frontend {
					s.Before = func(p *pool.Pool) {
						p.Admin("-f", p.Path("pgagroal_frontend_users.conf"), "-U", "carol", "-P", "front", "user", "add")
					}
				}
				p := pool.Start(t, s)
				want := refusal(t, p, "alice", "wrong")
				if got := refusal(t, p, "nobody", "wrong"); got != want {
					t.Errorf("an unknown user gets\n%s\na wrong password\n%s", got, want)
				}
				pool.WantCode(t, p.WantRefused(p.Config("nobody", "wrong", "postgres")), "28P01", `password authentication failed for user "nobody"`)
				wantLogged(t, p, "unknown user, and allow_unknown_users is off")
				p.ConnectAs(p.Config("alice", "right", "postgres"))
			})
		}
	}
}

// refusal returns the messages that a client gets before and after it sends a password,
// without the user's name.
func refusal(t testing.TB, p *pool.Pool, user, password string) string {
	t.Helper()
	conn := p.DialRaw()
	defer conn.Close()
	if _, err := conn.Write(pool.StartupPacket(t, map[string]string{"user": user, "database": "postgres"})); err != nil {
		t.Fatal(err)
	}
	typ, body, err := pgwire.ReadMessage(conn, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	said := p.WantRefused(p.Config(user, password, "postgres")).Error()
	return fmt.Sprintf("%c %q, %s", typ, body, strings.ReplaceAll(said, user, "USER"))
}

// If the rule asks nobody for a password, an unknown user is refused.
func TestUnknownUserIsRefusedByTrust(t *testing.T) {
	t.Parallel()
	c := asking(t, "trust")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, Keys: map[string]string{"allow_unknown_users": "off"},
	})
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "28000", `connection refused: user "postgres" is not known to the connection pool`)
	p.ConnectAs(p.Config("alice", "", "postgres")) // trusted by pgagroal's rules
}

func TestFrontendUserHasAPasswordOfItsOwn(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all scram-sha-256\n",
		Before: func(p *pool.Pool) {
			p.Admin("-f", p.Path("pgagroal_frontend_users.conf"), "-U", "alice", "-P", "front", "user", "add")
		},
	})
	pool.WantCode(t, p.WantRefused(p.Config("alice", "right", "postgres")), "28P01", "")
	cl := p.ConnectAs(p.Config("alice", "front", "postgres"))
	if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != "alice" {
		t.Errorf("session user %s", got)
	}
}

func TestWrongStoredPasswordIsTheServersRefusal(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"alice": "stale"}})
	pool.WantCode(t, p.WantRefused(p.Config("alice", "", "postgres")), "28P01", `password authentication failed for user "alice"`)
}

func TestMethodPasswordComparesInClear(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all password\n",
	})
	pool.WantCode(t, p.WantRefused(p.Config("alice", "wrong", "postgres")), "28P01", `password authentication failed for user "alice"`)
	pool.WantCode(t, p.WantRefused(p.Config("alice", "", "postgres")), "28P01", "")
	p.ConnectAs(p.Config("alice", "right", "postgres"))
}

func TestFirstMatchingHBALineDecides(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), HBA: strings.Join([]string{
		"host all eve all reject",
		"host template1 bob 127.0.0.0/8 trust",
		"host postgres bob 10.0.0.0/8 trust",
		"host postgres postgres 127.0.0.1/32 trust",
	}, "\n") + "\n"})
	none := `no pgagroal_hba.conf entry for host "127.0.0.1", user "%s", database "%s"`
	pool.WantCode(t, p.WantRefused(p.Config("eve", "", "postgres")), "28000",
		`connection refused: pgagroal_hba.conf rejects host "127.0.0.1", user "eve", database "postgres"`)
	pool.WantCode(t, p.WantRefused(p.Config("bob", "", "postgres")), "28000", fmt.Sprintf(none, "bob", "postgres"))
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "template1")), "28000", fmt.Sprintf(none, "postgres", "template1"))
	p.ConnectAs(p.Config("bob", "", "template1"))
	p.ConnectAs(p.Config("postgres", "", "postgres"))
	// In pg_hba.conf, host is for TCP only.
	err := p.WantRefused(p.UnixConfig("postgres", "", "postgres"))
	pool.WantCode(t, err, "28000", `no pgagroal_hba.conf entry for host "[local]", user "postgres", database "postgres"`)
}

func TestBackendOpenedWithAClientsPasswordIsNotSharedWithAnother(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"workers": "1"}})
	first := p.ConnectAs(p.Config("alice", "right", "postgres"))
	pid := pool.BackendPID(t, first)
	first.Close()
	pool.WantCode(t, p.WantRefused(p.Config("alice", "", "postgres")), "28P01", "")
	if got := pool.BackendPID(t, p.ConnectAs(p.Config("alice", "right", "postgres"))); got == pid {
		t.Error("a backend that a client's password opened serves another client")
	}
}
