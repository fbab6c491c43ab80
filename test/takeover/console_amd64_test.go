package takeover

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestATakenOverConsoleCanAnswerAndNothingElse makes every attempt of the worker's test in
// the console, which can't even make a socket. That test proves that each of them succeeds in a
// process that isn't confined.
func TestATakenOverConsoleCanAnswerAndNothingElse(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Keys: map[string]string{"workers": "1", "metrics": strconv.Itoa(pgtest.Port(t))},
		Users: map[string]string{"somebody": "a password of somebody"},
	})
	at := targetOf(p, c)
	pgtest.WaitUntil(t, pool.Generous, "the console to be there", func() bool { return p.Console() != 0 })
	p.WaitLog("console is ready")
	console := take(t, p.Console())
	for _, a := range attempts {
		if got := errno(a.do(console, at)); got != unix.EPERM {
			t.Errorf("%s: %v, want EPERM", a.name, got)
		}
	}
	if got := errno(console.connect(unix.AF_INET, unix.SOCK_STREAM, 0, tcpAddress(at.server))); got != unix.EPERM {
		t.Errorf("connect to the port of a server: %v, want EPERM", got)
	}
}
