package primary

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// Probes can't log in, so the hint decides; the login of a client shows that the hint
// is wrong.
func TestAWrongHintWithoutALoginOfItsOwnIsCorrectedByAClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Servers: hint(pool.Nodes(c), 2), Keys: map[string]string{"health_check_user": ""}})
	s.Opened("n2")
	s.Pool.Connect()
	s.Opened("n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("the client is on %s, want n1", got)
	}
	s.NothingRan()
}
