package backends

import (
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A client that waits at a full pool gets the place of a dead worker's backend as soon
// as that backend has ended on the server, long before orphan_grace.
func TestPlaceOfADeadWorkerIsFreeWhenItsServerSaysSo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "1", "orphan_grace": "1h"}})
	lost := p.Connect()
	pool.MustQuery(t, lost, "SELECT 1")
	if err := syscall.Kill(p.WorkerOf(lost), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.ReadResult(t.Context()); err == nil {
		t.Error("the client of the dead worker got an answer")
	}
	pool.MustQuery(t, p.Connect(), "SELECT 1")
}
