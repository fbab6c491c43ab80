package login

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// hbaLines mean the same in pg_hba.conf and in pgagroal_hba.conf. Clients come from 127.0.0.1.
var hbaLines = []string{
	`host "my db" all all reject # and a comment`,
	`host "a,b" all all reject`,
	`host one,two alice all reject`,
	`host three, four alice,bob all reject`,
	`host "all" carol all reject`,
	`host "sameuser" carol all reject`,
	`host sameuser dave,erin all reject`,
	`host sameuser,one frank all reject`,
	`host all "all",grace 127.0.0.0/30 reject`,
	`host all heidi 127.0.0.4/30 reject`,
	`host all heidi 10.0.0.0 255.0.0.0 reject`,
	`host two heidi 127.0.0.7 255.255.255.248 reject`,
	`host three heidi ::/0 reject`,
	`host four heidi 0.0.0.0 0.0.0.0 reject`,
	`host a,b "quo""te","Alice" 127.0.0.1/32 reject`,
	`host five ivan samehost reject`,
	`host six ivan samenet reject`,
	`host five judy localhost reject`,
	`host six judy LocalHost reject`,
	`host five kate .host reject`,
	`host six kate .localhost reject`,
	`host six kate nobody.localhost reject`,
	`hostssl five leo all reject`,
	`hostnossl six leo all reject`,
	`host one,\`,
	` five mia \`,
	`all reject`,
	`host @dbs,six @"the users" all reject`,
	`host five ned 127.0.0.0/8 trust`,
	`host five ned all reject`,
	`host all all all trust`,
}

// newLines are understood from PostgreSQL 16 on.
var newLines = []string{
	`host /^t.*e$ nora all reject`,
	`host "/^(one|t..)$" "/^o[l-p]" all reject`,
	`host /our /^pia$,nora all reject`,
	`host /^ou pia all reject`,
	`include more.conf`,
	`include_if_exists none.conf`,
	`include_dir rules`,
}

// referred are files that the lines refer to.
var referred = map[string]string{
	"dbs": "three\nfour, @dbs2 # c\n", "dbs2": `"my db"` + "\n", "the users": "otto\n", "more.conf": "host one pia all reject\n",
	"rules/b.conf": "host two pia all trust\n", "rules/a.conf": "host two,three pia all reject\n", "rules/none": "wrong\n",
}

// hbaNode returns a server with the lines, after one that lets everybody in on its Unix socket.
func hbaNode(t *testing.T, lines func(version string) []string) (*pgtest.Node, []string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	all := lines(pool.AskNode(t, n, "SHOW server_version_num"))
	pool.WriteFiles(t, n.DataDir, referred)
	pool.WriteFile(t, filepath.Join(n.DataDir, "pg_hba.conf"), "local all all trust\n"+strings.Join(all, "\n")+"\n", 0o644)
	if got := pool.AskNode(t, n, "SELECT string_agg(error, '; ') FROM pg_hba_file_rules WHERE error <> 'hostssl record cannot match because SSL is disabled'"); got != "" {
		t.Fatalf("lines are none of PostgreSQL's: %s", got)
	}
	if err := n.Stop(pool.Within(t), pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(pool.Within(t)); err != nil {
		t.Fatal(err)
	}
	return n, all
}

// Every user asks for every database, through pgagroal and directly: the same lines refuse the same. There are no such
// databases, so that a client that is let in learns this from the server. The files of verdicts list who is refused.
func TestLinesOfPostgreSQLMeanTheSameHere(t *testing.T) {
	t.Parallel()
	file := "names.verdicts"
	n, lines := hbaNode(t, func(version string) []string {
		if version < "160000" {
			return hbaLines
		}
		file = "names16.verdicts"
		return slices.Insert(slices.Clone(hbaLines), len(hbaLines)-1, newLines...)
	})
	users := []string{
		"alice", "Alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kate", "leo", "mia", "ned", "nora", "olga",
		"otto", "pia", "all", `quo"te`,
	}
	for _, u := range users {
		pool.AskNode(t, n, `CREATE ROLE "`+strings.ReplaceAll(u, `"`, `""`)+`" LOGIN`)
	}
	p := pool.Start(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}, HBA: strings.Join(lines, "\n") + "\n", Referred: referred,
	})
	const refused, noDatabase = "28000", "3D000"
	verdict := map[string]string{refused: "FATAL 28000: connection refused: pgagroal_hba.conf rejects host ", noDatabase: `FATAL 3D000: database "`}
	seen := map[string]int{}
	var verdicts strings.Builder
	for _, db := range []string{"my db", "a,b", "a", "b", "one", "two", "three", "four", "five", "six", "all", "sameuser", "dave", "erin", "frank", "heidi"} {
		out := []string{}
		for _, u := range users {
			_, err := pgtest.Connect(pool.Within(t), n.Config(u, "", db))
			want := pgtest.Code(err)
			if want != refused && want != noDatabase {
				t.Fatalf("PostgreSQL, database %s, user %s: %v", db, u, err)
			}
			if seen[want]++; want == refused {
				out = append(out, u)
			}
			if _, err := p.Try(p.Config(u, "", db)); err == nil || !strings.Contains(err.Error(), verdict[want]) {
				t.Errorf("database %s, user %s: %v, and %s directly", db, u, err, want)
			}
		}
		fmt.Fprintln(&verdicts, strings.TrimSuffix(db+": "+strings.Join(out, ", "), " "))
	}
	wantVerdicts(t, file, verdicts.String())
	if seen[refused] < len(lines) || seen[noDatabase] < len(lines) {
		t.Errorf("the lines tell too little: %v", seen)
	}
}

// As in PostgreSQL clients on Unix sockets fit rules of the type local and no others, once there is such a rule.
func TestLocalIsForUnixSocketsAlone(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), HBA: "local postgres all trust\nlocal all all reject\nhost template1 all all trust\n"})
	p.ConnectAs(p.UnixConfig("postgres", "", "postgres"))
	p.ConnectAs(p.Config("postgres", "", "template1"))
	pool.WantCode(t, p.WantRefused(p.UnixConfig("postgres", "", "template1")), "28000",
		`connection refused: pgagroal_hba.conf rejects host "[local]", user "postgres", database "template1"`)
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "28000",
		`no pgagroal_hba.conf entry for host "127.0.0.1", user "postgres", database "postgres"`)
}

// The method md5 asks for SCRAM, as PostgreSQL does for a user with a verifier of SCRAM.
func TestMethodMD5AsksForSCRAM(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all md5\n"})
	p.ConnectAs(p.Config("alice", "right", "postgres"))
	pool.WantCode(t, p.WantRefused(p.Config("alice", "wrong", "postgres")), "28P01", `password authentication failed for user "alice"`)
}
