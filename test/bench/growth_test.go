package main

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// TestTheMockAnswersBatchesAndPostgreSQLTheRest: a client logs in and asks for
// something else first, and then gets its batches.
func TestTheMockAnswersBatchesAndPostgreSQLTheRest(t *testing.T) {
	n := pgtest.New(t, pgtest.Options{}).Primary()
	for _, sql := range []string{"CREATE ROLE " + account + " LOGIN", "CREATE DATABASE " + database + " OWNER " + account} {
		if _, err := n.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newCrew(n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		client, err := login(t.Context(), net.JoinHostPort("127.0.0.1", fmt.Sprint(c.port())), account, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.query(t.Context(), "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		if err := c.add(client.conn, &batchClient{crew: c}, nil); err != nil {
			t.Fatal(err)
		}
		if err := client.close(); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for c.batches.Load() < 100 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d batches in a minute", c.batches.Load())
		}
		if lost := c.lost.Load(); lost > 0 {
			t.Fatalf("%d connections lost", lost)
		}
	}
}
