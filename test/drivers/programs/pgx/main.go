// Command pgx is the program of the driver pgx. Go's TLS checks authority and name.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

func say(step string, what ...any) {
	fmt.Println(strings.Join(append([]string{step}, strings.Fields(fmt.Sprint(what...))...), " "))
}

func connect(ctx context.Context, password, ca string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("password=%s sslmode=verify-full sslrootcert=%s", password, os.Getenv(ca)))
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

func fails(ctx context.Context, step, password, ca string) {
	_, err := connect(ctx, password, ca)
	say(step, err)
}

func one(ctx context.Context, c *pgx.Conn, sql string) string {
	var value string
	must(c.QueryRow(ctx, sql).Scan(&value))
	return value
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	in := bufio.NewScanner(os.Stdin)
	right := os.Getenv("PGPASSWORD")
	c, err := connect(ctx, right, "CA")
	must(err)
	say("login", one(ctx, c, "SELECT session_user::text"))
	fails(ctx, "wrong-password", "wrong", "CA")
	fails(ctx, "wrong-ca", right, "WRONG_CA")

	sum := 0
	for i := range 10 {
		var n int
		must(c.QueryRow(ctx, "SELECT $1::int * 2", i+1).Scan(&n))
		sum += n
	}
	say("prepared", sum)

	say("sleeping")
	cancelled := make(chan error)
	go func() {
		in.Scan()
		cancelled <- c.PgConn().CancelRequest(ctx)
	}()
	_, err = c.Exec(ctx, fmt.Sprintf("SELECT pg_sleep(600) /* %s */", os.Getenv("NAME")))
	must(<-cancelled) // until the request's connection ends, it can hit the next statement
	say("cancel", err)

	tx, err := c.Begin(ctx)
	must(err)
	_, err = tx.Exec(ctx, "CREATE TEMP TABLE c (i int) ON COMMIT DROP")
	must(err)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"c"}, []string{"i"}, pgx.CopyFromSlice(100, func(i int) ([]any, error) { return []any{i}, nil }))
	must(err)
	say("copy", one(ctx, c, "SELECT count(*)::text FROM c"))
	must(tx.Commit(ctx))

	say("ready")
	if !in.Scan() || in.Text() != "failover" {
		return
	}
	if _, err := c.Exec(ctx, "SELECT 1"); err == nil {
		say("lost", "-")
	} else {
		say("lost", err)
		c, err = connect(ctx, right, "CA")
		must(err)
	}
	say("after", one(ctx, c, "SELECT inet_server_port()::text"))
}
