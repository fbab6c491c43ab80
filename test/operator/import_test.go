package operator

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestAPoolMadeFromAConfigurationOfPgBouncer imports an ini file with its list of users, and uses the pool as clients of
// PgBouncer would.
func TestAPoolMadeFromAConfigurationOfPgBouncer(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: []string{"host all app 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"}})
	const password = "bishop-takes-f7"
	for _, sql := range []string{"CREATE ROLE app LOGIN PASSWORD '" + password + "'", "CREATE DATABASE orders"} {
		if _, err := c.Nodes[0].Query(pool.Within(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	p := pool.Prepare(t, pool.Setup{Users: map[string]string{"other": "x"}}) // the master key stays, all else is imported
	for _, name := range []string{"pgagroal.conf", "pgagroal_hba.conf", "pgagroal_databases.conf", "pgagroal_users.conf"} {
		pool.Must(t, os.Remove(p.Path(name)))
	}
	pool.WriteFile(t, p.Path("bouncer.ini"), fmt.Sprintf(`[databases]
shop = host=127.0.0.1 port=%d dbname=orders pool_size=3

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir = %s
auth_type = md5
auth_file = %s
pool_mode = transaction
verbose = 1
`, c.Nodes[0].Port, p.Port, p.Path("run"), p.Path("bouncer.users")), 0o644)
	pool.WriteFile(t, p.Path("bouncer.users"), `"app" "`+password+`"`+"\n"+`"late" "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`+"\n", 0o600)
	run := func(want int) string {
		cmd := p.Command("pgagroal-admin", "import", p.Path("bouncer.ini"), p.Path("bouncer.users"), "--to", p.Dir)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != want || strings.Contains(string(out), password) {
			t.Fatalf("%v, want exit code %d, and no password\n%s", err, want, out)
		}
		return string(out)
	}
	out := run(0)
	for _, want := range []string{"auth_file = late\n      a verifier or hash isn't a password", "orders=shop all 6", "pgagroal_users.conf\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if again := run(1); !strings.Contains(again, "is there already") {
		t.Errorf("a second import says\n%s", again)
	}
	p.Admin("conf", "set", p.Path("pgagroal.conf"), "pgagroal", "workers", "2") // as the harness expects
	p.Run()
	for range 3 { // one connection of the pool serves all of them
		client := p.ConnectAs(p.Config("app", password, "shop"))
		if got := pool.MustQuery(t, client, "SELECT current_database(), current_user"); got[0][0] != "orders" || got[0][1] != "app" {
			t.Errorf("%v", got)
		}
	}
	pool.WantCode(t, p.WantRefused(p.Config("app", "wrong", "shop")), "28P01", "")
	p.WantRefused(p.Config("app", password, "postgres")) // PgBouncer has no entry for it
	p.WantRefused(p.Config("postgres", "", "shop"))      // it isn't in the list, and the server trusts us
}
