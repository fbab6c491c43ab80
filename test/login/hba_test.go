package login

import (
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
	`host all all all trust`,
}

// Every user asks for every database, through pgagroal and directly: the same lines refuse the same clients. The
// databases don't exist, so that a client that is let in gets an error of the server.
func TestLinesOfPostgreSQLMeanTheSameHere(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: append([]string{"local all all trust"}, hbaLines...)})
	n := c.Primary()
	if got := pool.AskNode(t, n, "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL"); got != "0" {
		t.Fatalf("%s lines are none of PostgreSQL's", got)
	}
	users := []string{"alice", "Alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "all", `quo"te`}
	for _, u := range users {
		pool.AskNode(t, n, `CREATE ROLE "`+strings.ReplaceAll(u, `"`, `""`)+`" LOGIN`)
	}
	p := pool.Start(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}, HBA: strings.Join(hbaLines, "\n") + "\n"})
	const refused, noDatabase = "28000", "3D000"
	verdict := map[string]string{refused: "FATAL 53300: connection refused", noDatabase: `FATAL 3D000: database "`}
	seen := map[string]int{}
	for _, db := range []string{"my db", "a,b", "a", "b", "one", "two", "three", "four", "all", "sameuser", "dave", "erin", "frank", "heidi"} {
		for _, u := range users {
			_, err := pgtest.Connect(pool.Within(t), n.Config(u, "", db))
			want := pgtest.Code(err)
			if want != refused && want != noDatabase {
				t.Fatalf("PostgreSQL, database %s, user %s: %v", db, u, err)
			}
			seen[want]++
			if _, err := p.Try(p.Config(u, "", db)); err == nil || !strings.Contains(err.Error(), verdict[want]) {
				t.Errorf("database %s, user %s: %v, and %s directly", db, u, err, want)
			}
		}
	}
	if seen[refused] < len(hbaLines) || seen[noDatabase] < len(hbaLines) {
		t.Errorf("the lines tell too little: %v", seen)
	}
}
