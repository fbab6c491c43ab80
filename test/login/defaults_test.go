package login

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// followed are the parameters that the pool may set again on a client's next backend.
var followed = []string{"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings"}

// A client finds the settings that it would find without a pool: those of its start-up
// packet, else the defaults of its role, its database and the server. RESET, SET TO
// DEFAULT and DISCARD ALL return to them. The parameters that the server reports are the
// same, too.
func TestSettingsAreThoseOfAClientWithoutAPool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), `CREATE ROLE named LOGIN; ALTER ROLE named SET application_name = 'of the role';
		ALTER ROLE named SET DateStyle = 'German'; CREATE ROLE plain LOGIN`)
	pool.AskNode(t, c.Primary(), "CREATE DATABASE other")
	pool.AskNode(t, c.Primary(), `ALTER DATABASE other SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE other SET application_name = 'of the database'`)
	asked := map[string]string{
		"application_name": "my 'own'", "client_encoding": "LATIN1", "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601",
		"TimeZone": "Europe/Rome", "standard_conforming_strings": "off",
	}
	changed := `SET application_name = 'changed'; SET client_encoding = 'UTF8'; SET DateStyle = 'Postgres'; SET IntervalStyle = 'sql_standard';
		SET TimeZone = 'America/Lima'; SET standard_conforming_strings = on`
	steps := []string{
		"SELECT 1", changed, "SET application_name TO DEFAULT", "RESET TimeZone", "RESET ALL", changed, "DISCARD ALL",
		"SET application_name = ''", "SET application_name = 'of the role'; SET TimeZone = 'Asia/Tokyo'", "RESET DateStyle",
		"BEGIN; RESET ALL; ROLLBACK", "SET application_name = 'x'", "BEGIN; RESET application_name; COMMIT",
	}
	for _, pipeline := range []string{"session", "transaction"} {
		p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"pipeline": pipeline, "workers": "1"}})
		for _, who := range [][2]string{{"plain", "postgres"}, {"named", "postgres"}, {"plain", "other"}, {"named", "other"}} {
			for _, params := range []map[string]string{nil, asked} {
				direct, err := pgtest.Connect(t.Context(), pgtest.ClientConfig{Addr: c.Primary().Addr(), User: who[0], Database: who[1], Params: params})
				if err != nil {
					t.Fatal(err)
				}
				cfg := p.Config(who[0], "", who[1])
				cfg.Params = params
				pooled := p.ConnectAs(cfg)
				for _, sql := range steps {
					pool.MustQuery(t, direct, sql)
					pool.MustQuery(t, pooled, sql)
					for _, name := range followed {
						want, got := pool.ShowSetting(t, direct, name), pool.ShowSetting(t, pooled, name)
						if got != want || pooled.Params[name] != direct.Params[name] {
							t.Errorf("%s, %v, asked %v, after %q: %s is %q and reported %q, directly %q and %q",
								pipeline, who, params != nil, sql, name, got, pooled.Params[name], want, direct.Params[name])
						}
					}
				}
				direct.Close()
				pooled.Close()
			}
		}
	}
}
