package test

import (
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// A client behind a full pool gets the place of a dead worker's backend when the
// server has seen that backend end, long before orphan_grace.
func TestPlaceOfADeadWorkerIsFreeWhenItsServerSaysSo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := Start(t, Setup{Servers: nodes(c), Keys: map[string]string{"max_connections": "1", "orphan_grace": "1h"}})
	lost := p.Connect()
	mustQuery(t, lost, "SELECT 1")
	if err := syscall.Kill(p.workerOf(lost), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.ReadResult(t.Context()); err == nil {
		t.Error("the client of the dead worker got an answer")
	}
	mustQuery(t, p.Connect(), "SELECT 1")
}
