package process

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A line of the HBA file or of the limits that another program understands, and that would do
// nothing here, is refused by the check and at the start, with its place.
func TestLinesThatWouldDoNothingAreRefused(t *testing.T) {
	t.Parallel()
	servers := []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}
	for line, want := range map[string]string{
		"host 'secret' all all reject":    "single quotes mean nothing here",
		"host samerole all all reject":    "doesn't know who is a member of a role",
		"host all +staff all reject":      "doesn't know who is a member of a role",
		"host * all all reject":           "the * means nothing here; write all",
		"host all app_* all reject":       "the * means nothing here; write all",
		"host “secret” all all reject":    "the typographic quote",
		"host replication all all reject": "delete the line",
		"'d' u 5":                         "single quotes mean nothing here",
		"* u 5":                           "the * means nothing here; write all",
		"d +staff 5":                      "doesn't know who is a member of a role",
		"d @users 5":                      "files of names aren't read here",
		"/^d u 5":                         "regular expressions aren't known here",
		"sameuser u 5":                    "sameuser isn't known here",
	} {
		s, file := pool.Setup{Servers: servers}, "pgagroal_databases.conf:2:"
		if strings.HasPrefix(line, "host") {
			s.HBA, file = "# rules\n"+line+"\n", "pgagroal_hba.conf:2:"
		} else {
			s.Databases = "# limits\n" + line + "\n"
		}
		p := pool.Prepare(t, s)
		for _, flags := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
			if said := pool.WontStart(t, p.Command("pgagroal", flags...)); !strings.Contains(said, want) || !strings.Contains(said, file) {
				t.Errorf("%q: %v says %q, want %q at %s", line, flags, said, want, file)
			}
		}
	}
}

// A name in double quotes and a list limit whom they name.
func TestLimitsOfQuotedNamesAndListsHold(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), `CREATE DATABASE "my db"`)
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Databases: "other,\"my db\" \"postgres\" 1\nall all 5\n",
		Keys: map[string]string{"pipeline": "session", "blocking_timeout": "0"},
	})
	cfg := p.Config("postgres", "", "my db")
	p.ConnectAs(cfg)
	pool.WantCode(t, p.WantRefused(cfg), "53300", "")
	p.Connect()
}
