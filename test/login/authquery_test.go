package login

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// lookedUp are HBA lines of a server for auth_query: everybody needs a password but postgres, whom tests use.
var lookedUp = []string{
	"host all postgres 127.0.0.1/32 trust", "host all +hashed 127.0.0.1/32 md5", "host all all 127.0.0.1/32 scram-sha-256",
}

const (
	bossRole  = "CREATE ROLE hashed; CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'the boss'; "
	aliceRole = "CREATE ROLE alice LOGIN PASSWORD 'right'; "
	theLookUp = " FROM pg_stat_activity WHERE application_name = 'pgagroal auth_query'"
)

// askingPool starts a pool that asks the cluster for the passwords of users.
func askingPool(t testing.TB, c *pgtest.Cluster, hba string, keys map[string]string) *pool.Pool {
	t.Helper()
	all := map[string]string{"auth_query": "on"}
	for k, v := range keys {
		all[k] = v
	}
	return pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), HBA: hba, Keys: all, Superuser: "boss:the boss", Databases: "postgres all 3\n",
	})
}

func served(t testing.TB, p *pool.Pool, user, password string) {
	t.Helper()
	cl := p.ConnectAs(p.Config(user, password, "postgres"))
	if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != user {
		t.Errorf("session user %s", got)
	}
	cl.Close()
}

func wrongPassword(t testing.TB, p *pool.Pool, user, password string) {
	t.Helper()
	pool.WantCode(t, p.WantRefused(p.Config(user, password, "postgres")), "28P01", fmt.Sprintf("password authentication failed for user %q", user))
}

func notLookedUp(t testing.TB, p *pool.Pool, user, database, why string) {
	t.Helper()
	pool.WantCode(t, p.WantRefused(p.Config(user, "right", database)), "57P03", fmt.Sprintf("could not look up the password of user %q", user))
	wantLogged(t, p, why)
}

// TestUsersOfTheServerLogInWithoutAnEntry has a role for each rule and each way to store a password.
func TestUsersOfTheServerLogInWithoutAnEntry(t *testing.T) {
	t.Parallel()
	methods := []string{"scram-sha-256", "md5", "password", "all", "trust"}
	c := pgtest.New(t, pgtest.Options{HBA: lookedUp})
	roles, hba := bossRole, "host all boss all all\n"
	for _, stored := range []string{"scram-sha-256", "md5"} {
		roles += "SET password_encryption TO '" + stored + "'; "
		for _, method := range methods {
			roles += fmt.Sprintf("CREATE ROLE %q LOGIN PASSWORD 'right'; ", stored+" "+method)
			if stored == "md5" {
				roles += fmt.Sprintf("GRANT hashed TO %q; ", stored+" "+method)
			}
			hba += fmt.Sprintf("host all %q all %s\n", stored+" "+method, method)
		}
	}
	pool.AskNode(t, c.Primary(), roles)
	for _, keys := range []map[string]string{
		{"pipeline": "session", "ev_backend": "epoll"},
		{"pipeline": "transaction"},
		{"pipeline": "transaction", "md5": "off"},
	} {
		t.Run(keys["pipeline"]+", md5 "+keys["md5"], func(t *testing.T) {
			hba := hba
			if keys["md5"] == "off" {
				hba = strings.ReplaceAll(hba, "all md5\n", "all all\n")
			}
			p := askingPool(t, c, hba+"host all all all all\n", keys)
			for _, method := range methods {
				served(t, p, "scram-sha-256 "+method, "right")
				wrongPassword(t, p, "scram-sha-256 "+method, "wrong")
				served(t, p, "scram-sha-256 "+method, "right")
				wrongPassword(t, p, "md5 "+method, "wrong")
				if keys["md5"] == "off" || method == "scram-sha-256" {
					wrongPassword(t, p, "md5 "+method, "right")
					continue
				}
				served(t, p, "md5 "+method, "right")
			}
			wrongPassword(t, p, "nobody", "right")
			wrongPassword(t, p, "boss", "the boss") // is for pgagroal alone
			if pool.AskNode(t, c.Primary(), "SELECT count(*) <= 8"+theLookUp) != "t" {
				t.Error("more connections look up than there may be, of two pools at most")
			}
		})
	}
}

// TestAnswersOfAuthQueryAreKept lets answers count for an hour, so that what the servers are asked again is seen.
func TestAnswersOfAuthQueryAreKept(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: lookedUp})
	n := c.Primary()
	const odd = `o'x"; DROP TABLE kept --`
	pool.AskNode(t, n, bossRole+aliceRole+`CREATE ROLE bob LOGIN PASSWORD 'right'; CREATE ROLE carol LOGIN PASSWORD 'right';
		CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01'; CREATE ROLE nologin PASSWORD 'right'; CREATE ROLE nopassword LOGIN;
		CREATE TABLE kept(); CREATE ROLE "`+strings.ReplaceAll(odd, `"`, `""`)+`" LOGIN PASSWORD 'right'`)
	p := askingPool(t, c, "host all all all scram-sha-256\n", map[string]string{
		"auth_query_max_age": "1h", "pipeline": "transaction", "workers": "1", "auth_query_connections": "1",
	})
	t.Run("who may not log in looks like a stranger", func(t *testing.T) {
		want := refusal(t, p, "nobody", "right")
		if wrong := refusal(t, p, "bob", "wrong"); wrong != want {
			t.Errorf("a wrong password gets\n%s\na stranger\n%s", wrong, want)
		}
		for _, user := range []string{"expired", "nologin", "nopassword", "hashed", "boss", strings.Repeat("x", 64)} {
			if got := refusal(t, p, user, "right"); got != want {
				t.Errorf("%s gets\n%s\na stranger\n%s", user, got, want)
			}
		}
	})
	t.Run("a name is a name", func(t *testing.T) {
		served(t, p, odd, "right")
		for _, name := range []string{"' OR rolname = 'alice", "alice' --", "alice'; DROP TABLE kept; --", "$1", "al\\ice", "al%", "\xff\xfe"} {
			pool.WantCode(t, p.WantRefused(p.Config(name, "right", "postgres")), "28P01", "")
		}
		if pool.AskNode(t, n, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") != "1" {
			t.Error("the table is gone")
		}
	})
	session := p.ConnectAs(p.Config("alice", "right", "postgres"))
	t.Run("a proof serves until the password changes", func(t *testing.T) {
		for range 2 {
			pool.MustQuery(t, session, "SELECT 1")
			endBackends(t, n)
		}
		served(t, p, "alice", "right")
	})
	t.Run("only users that are known are served without the server", func(t *testing.T) {
		pool.AskNode(t, n, "ALTER ROLE boss NOLOGIN; SELECT pg_terminate_backend(pid)"+theLookUp)
		served(t, p, "alice", "right")
		notLookedUp(t, p, "carol", "postgres", `role \"boss\" is not permitted to log in`)
		pool.AskNode(t, n, "ALTER ROLE boss LOGIN")
		served(t, p, "carol", "right")
		pool.AskNode(t, n, "SELECT pg_terminate_backend(pid)"+theLookUp)
		pool.WaitNode(t, n, "SELECT count(*)"+theLookUp, "0")
		served(t, p, "bob", "right") // over a connection in place of the killed one
	})
	t.Run("a new password", func(t *testing.T) {
		changePassword(t, n, "another")
		pool.WantCode(t, firstQuery(p, p.Config("alice", "right", "postgres")), "28P01", `password authentication failed for user "alice"`)
		served(t, p, "alice", "another")
		wrongPassword(t, p, "alice", "right")
		pool.MustQuery(t, session, "SELECT 1") // as the user who it is
		changePassword(t, n, "third")
		pgtest.WaitUntil(t, pool.Generous, "a login with the new password after ones that failed", func() bool {
			return firstQuery(p, p.Config("alice", "third", "postgres")) == nil
		})
	})
}

// TestTheStatementOfAuthQueryIsTheOperators looks up by a function that a role without rights may execute, in the
// database of the client.
func TestTheStatementOfAuthQueryIsTheOperators(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: lookedUp})
	pool.AskNode(t, c.Primary(), aliceRole+`CREATE ROLE hashed; CREATE ROLE asker LOGIN PASSWORD 'to ask'; CREATE TABLE seen(who text);
		CREATE FUNCTION password_of(who text) RETURNS TABLE(name text, stored text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
		BEGIN
			IF who = 'fails' THEN RAISE 'a fault of the function'; END IF;
			IF who = 'writes' THEN INSERT INTO public.seen VALUES (who); END IF;
			IF who = 'two' THEN RETURN QUERY SELECT who, 'a' UNION ALL SELECT who, 'b'; END IF;
			IF who = 'garbage' THEN RETURN QUERY SELECT who, 'right'::text; END IF;
			IF who = 'large' THEN RETURN QUERY SELECT who, repeat('x', 2000); END IF;
			RETURN QUERY SELECT usename::text, passwd FROM pg_shadow WHERE usename = who;
		END $$`)
	pool.AskNode(t, c.Primary(), "CREATE DATABASE other")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"asker": "to ask"}, HBA: "host all all all scram-sha-256\n",
		Keys: map[string]string{
			"auth_query": "on", "auth_query_user": "asker", "auth_query_database": "*", "allow_unknown_users": "off",
			"auth_query_statement": "'SELECT name, stored FROM public.password_of($1)'", "workers": "1",
		},
	})
	served(t, p, "alice", "right")
	served(t, p, "asker", "to ask") // has an entry
	wrongPassword(t, p, "nobody", "right")
	for user, why := range map[string]string{
		"fails":   "a fault of the function",
		"writes":  "cannot execute INSERT in a read-only transaction",
		"two":     "the statement returns more than one row for a user",
		"garbage": "the statement returns neither a SCRAM-SHA-256 verifier nor an MD5 hash",
		"large":   "the statement returns more than a stored password",
	} {
		notLookedUp(t, p, user, "postgres", why)
	}
	notLookedUp(t, p, "alice", "other", "function public.password_of(unknown) does not exist")
	notLookedUp(t, p, "alice", "nowhere", `database \"nowhere\" does not exist`)
	served(t, p, "alice", "right")
}

// TestAMadeUpAnswerOpensNoConnection has somebody who says what is stored of alice, while a connection of hers is idle.
func TestAMadeUpAnswerOpensNoConnection(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: lookedUp})
	pool.AskNode(t, c.Primary(), bossRole+aliceRole+"CREATE ROLE forger PASSWORD 'forged'; CREATE TABLE said(who text)")
	for _, pipeline := range []string{"session", "transaction"} {
		p := askingPool(t, c, "host all all all scram-sha-256\n", map[string]string{
			"auth_query_max_age": "0", "workers": "1", "pipeline": pipeline,
			"auth_query_statement": "'SELECT rolpassword FROM pg_authid WHERE rolname = coalesce((SELECT who FROM public.said), $1)'",
		})
		served(t, p, "alice", "right")
		pool.AskNode(t, c.Primary(), "INSERT INTO said VALUES ('forger')")
		wrongPassword(t, p, "alice", "forged")
		pool.AskNode(t, c.Primary(), "DELETE FROM said")
		served(t, p, "alice", "right")
		if n := pool.AskNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'"); n == "0" {
			t.Error("there was no idle connection")
		}
		p.Stop()
	}
}

func TestStoredPasswordsAreLookedUpOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "scram-sha-256")
	pool.AskNode(t, c.Primary(), "CREATE ROLE boss LOGIN SUPERUSER")
	p := behind(t, c, ca.cert, map[string]string{"boss": "unused"}, map[string]string{"auth_query": "on", "auth_query_user": "boss"},
		map[string]string{"tls": "verify-full", "tls_ca_file": "ca.pem"})
	p.Run()
	served(t, p, "alice", "right")
	wrongPassword(t, p, "alice", "wrong")
	if got := pool.AskNode(t, c.Primary(), "SELECT bool_and(ssl) FROM pg_stat_ssl WHERE pid IN (SELECT pid"+theLookUp+")"); got != "t" {
		t.Errorf("over TLS: %q", got)
	}
}

func TestAuthQueryAsksWhicheverServerAnswers(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, HBA: lookedUp})
	pool.AskNode(t, c.Primary(), bossRole+aliceRole+"CREATE ROLE bob LOGIN PASSWORD 'right'; CREATE ROLE carol LOGIN PASSWORD 'right'")
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Primary()))
	s := pool.Play(t, c, pool.Plan{
		Users: map[string]string{"boss": "the boss"},
		Keys:  map[string]string{"auth_query": "on", "auth_query_user": "boss", "pipeline": "transaction"},
	})
	s.Opened("n1")
	session := s.Pool.ConnectAs(s.Pool.Config("alice", "right", "postgres"))
	pool.MustQuery(t, session, "SELECT 1")
	pool.Must(t, c.Nodes[0].Kill())
	served(t, s.Pool, "bob", "right") // waits for the new primary
	s.Opened("n2")
	served(t, s.Pool, "carol", "right")
	if _, err := pool.Query(session, "SELECT 1"); err != nil {
		pool.WantCode(t, err, "08006", "") // it may have been told of the loss
	}
	pool.MustQuery(t, session, "SELECT 1")
	pool.Must(t, c.Nodes[1].Kill())
	notLookedUp(t, s.Pool, "dave", "postgres", "auth_query: ")
	pool.Must(t, c.Nodes[1].Start(pool.Within(t)))
	pgtest.WaitUntil(t, pool.Generous, "a server that answers again", func() bool {
		_, err := s.Pool.Try(s.Pool.Config("dave", "right", "postgres"))
		return pgtest.Code(err) == "28P01"
	})
}
