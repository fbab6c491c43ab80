package faults

import (
	"flag"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var (
	write  = flag.Bool("write", false, "run with the default times and put the tables into doc/FAILOVER.md")
	rounds = flag.Int("rounds", 3, "how often -write runs each fault")
	repeat = flag.Int("repeat", 2, "how often each disturbance that must not start a script is repeated; more than 2 adds the slow ones")
)

func TestMain(m *testing.M) { pool.Main(m) }

// needNetworks skips a test where it can't make networks.
func needNetworks(t *testing.T) {
	t.Helper()
	if err := pgtest.NoNetns(); err != nil {
		t.Skip(err)
	}
}

// generous bounds a wait for something that must happen; it is no measurement.
const generous = time.Minute
