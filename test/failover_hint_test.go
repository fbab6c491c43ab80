package test

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Probes can't log in, so the hint decides; a client's login shows it wrong.
func TestAWrongHintWithoutALoginOfItsOwnIsCorrectedByAClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{servers: hint(nodes(c), 2), keys: map[string]string{"health_check_user": ""}})
	s.opened("n2")
	s.p.Connect()
	s.opened("n1")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("the client is on %s, want n1", got)
	}
	s.nothingRan()
}
