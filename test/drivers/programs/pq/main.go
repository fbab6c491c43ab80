// Command pq is the program of the driver lib/pq. Go's TLS checks authority and name.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"strings"

	_ "github.com/lib/pq"
)

func say(step string, what ...any) {
	fmt.Println(strings.Join(append([]string{step}, strings.Fields(fmt.Sprint(what...))...), " "))
}

// connect opens one connection: database/sql would replace a lost one unseen.
func connect(ctx context.Context, password, ca string) (*sql.Conn, error) {
	db, err := sql.Open("postgres", fmt.Sprintf("host=localhost password=%s sslmode=verify-full sslrootcert=%s", password, os.Getenv(ca)))
	if err != nil {
		return nil, err
	}
	return db.Conn(ctx)
}

func fails(ctx context.Context, step, password, ca string) {
	_, err := connect(ctx, password, ca)
	say(step, err)
}

func one(ctx context.Context, c *sql.Conn, query string) string {
	var value string
	must(c.QueryRowContext(ctx, query).Scan(&value))
	return value
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// copied copies 100 rows, in a transaction.
func copied(ctx context.Context, c *sql.Conn) string {
	tx, err := c.BeginTx(ctx, nil)
	must(err)
	_, err = tx.ExecContext(ctx, "CREATE TEMP TABLE c (i int) ON COMMIT DROP")
	must(err)
	in, err := tx.PrepareContext(ctx, "COPY c (i) FROM STDIN")
	must(err)
	for i := range 100 {
		_, err = in.ExecContext(ctx, i)
		must(err)
	}
	_, err = in.ExecContext(ctx)
	must(err)
	must(in.Close())
	count := one(ctx, c, "SELECT count(*) FROM c")
	must(tx.Commit())
	return count
}

func main() {
	ctx := context.Background()
	in := bufio.NewScanner(os.Stdin)
	right := os.Getenv("PGPASSWORD")
	c, err := connect(ctx, right, "CA")
	must(err)
	say("login", one(ctx, c, "SELECT session_user"))
	fails(ctx, "wrong-password", "wrong", "CA")
	fails(ctx, "wrong-ca", right, "WRONG_CA")

	statement, err := c.PrepareContext(ctx, "SELECT $1::int * 2")
	must(err)
	sum := 0
	for i := range 10 {
		var n int
		must(statement.QueryRowContext(ctx, i+1).Scan(&n))
		sum += n
	}
	must(statement.Close())
	say("prepared", sum)

	say("sleeping")
	limited, cancel := context.WithCancel(ctx)
	go func() {
		in.Scan()
		cancel()
	}()
	_, err = c.ExecContext(limited, fmt.Sprintf("SELECT pg_sleep(600) /* %s */", os.Getenv("NAME")))
	say("cancel", err)

	c, err = connect(ctx, right, "CA") // lib/pq gives up a connection whose statement was cancelled
	must(err)
	say("copy", copied(ctx, c))

	say("ready")
	if !in.Scan() || in.Text() != "failover" {
		return
	}
	if _, err := c.ExecContext(ctx, "SELECT 1"); err == nil {
		say("lost", "-")
	} else {
		say("lost", err)
		c, err = connect(ctx, right, "CA")
		must(err)
	}
	say("after", one(ctx, c, "SELECT inet_server_port()"))
}
