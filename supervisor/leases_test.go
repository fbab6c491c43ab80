package supervisor

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Silent connections of unknown users don't take the place of others.
func TestSilentLoginsLeaveOthersTheirPlace(t *testing.T) {
	w := newWorld(t, 2) // of 4 connections
	w.up()
	for id := range uint64(60) {
		w.say(w.children[0], &ipc.LeaseRequest{ID: id, Key: key("stranger"), Unproven: true})
	}
	g := messagesOf[*ipc.LeaseGrant](w.children[0])
	if len(g) != 1 {
		t.Fatalf("%d of 4 leases are held by logins that have proven nothing", len(g))
	}
	for range 3 {
		w.lease(w.children[1], key("u"))
	}
	w.say(w.children[1], &ipc.LeaseReturn{Lease: 2})
	w.say(w.children[0], &ipc.LeaseOpened{Lease: g[0].Lease, PID: 42, Key: "abcd"})
	if g = messagesOf[*ipc.LeaseGrant](w.children[0]); len(g) != 2 {
		t.Errorf("%d grants after the first one has proven who it is", len(g))
	}
}

// Each process of a worker numbers its requests from 1. A request with NoWait of a dead
// process must not be taken for the request of its successor with the same number.
func TestRequestsThatMustNotWaitEndWithTheirWorker(t *testing.T) {
	w := newWorld(t, 2, oneConnection, func(c *config.Config) { c.ConnectionRetryDelay = time.Second })
	w.up()
	w.say(w.children[0], &ipc.LeaseRequest{ID: 1, Key: key("u")}) // the only lease
	w.say(w.children[1], &ipc.LeaseRequest{ID: 1, Key: key("u"), NoWait: true})
	w.advance(600 * time.Millisecond)
	w.die(w.children[1])
	w.advance(0) // the restart
	heir := w.children[2]
	w.hello(heir)
	if n := len(w.s.leases.hasty); n != 0 {
		t.Errorf("%d requests of a dead worker are still timed", n)
	}
	w.say(heir, &ipc.LeaseRequest{ID: 1, Key: key("u"), NoWait: true})
	w.advance(600 * time.Millisecond)
	if n := len(messagesOf[*ipc.LeaseRefuse](heir)); n != 0 {
		t.Fatal("refused by the time limit of its predecessor's request")
	}
	w.advance(400 * time.Millisecond)
	if n := len(messagesOf[*ipc.LeaseRefuse](heir)); n != 1 {
		t.Errorf("refused %d times after its own time limit", n)
	}
	if n := len(messagesOf[*ipc.LeaseRefuse](w.children[1])); n != 0 {
		t.Error("a dead worker was told something")
	}
	if n := w.s.ledger.Counts().Waiting; n != 0 {
		t.Errorf("%d requests wait", n)
	}
}
