package transaction

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// wantTold fails the test unless the client's next messages are these.
func wantTold(t testing.TB, c *pgtest.Client, want string) {
	t.Helper()
	for _, part := range strings.Split(want, " | ") {
		words := strings.Fields(part)
		if got := pool.Told(t, c, words[len(words)-1]); got != part {
			t.Fatalf("told %q, want %q", got, part)
		}
	}
}
