package operator

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// shut sends a shutdown command, which must be accepted.
func shut(p *pool.Pool, words ...string) {
	p.T.Helper()
	if out, errs, code := p.CLI(slices.Concat([]string{"shutdown"}, words)...); code != 0 {
		p.T.Fatalf("shutdown %v: exit %d, %s%s", words, code, out, errs)
	}
}

// waitStatus waits until status says this of the pooler.
func waitStatus(p *pool.Pool, want string) {
	p.T.Helper()
	pgtest.WaitUntil(p.T, pool.Generous, "status "+want, func() bool { return p.JSON("status")["Status"] == want }, p.Log)
}

// wantEnd waits for a regular end.
func wantEnd(p *pool.Pool) {
	p.T.Helper()
	if code := p.WaitEnd(); code != 0 {
		p.T.Errorf("exit code %d, want 0\n%s", code, p.Log())
	}
}

func single(t *testing.T) *pool.Pool {
	t.Helper()
	return pool.Start(t, pool.Setup{Servers: pool.Nodes(pgtest.New(t, pgtest.Options{}))})
}

func TestAGracefulShutdownWaitsForClientsAndLetsNobodyIn(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	shut(p, "gracefully")
	waitStatus(p, "Graceful shutdown")
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "57P03", "connection refused: the connection pool is shutting down")
	for option, want := range map[string]int{"--primary": 0, "--write": 3} { // with these codes a load balancer sends no more clients
		if out, errs, code := p.CLI("ping", option); code != want {
			t.Errorf("ping %s: exit %d, want %d:\n%s%s", option, code, want, out, errs)
		}
	}
	pool.MustQuery(t, cl, "SELECT 1")
	pool.Must(t, cl.Close())
	wantEnd(p)
}

func TestAGracefulShutdownCanBeCancelled(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	shut(p, "gracefully")
	waitStatus(p, "Graceful shutdown")
	shut(p, "cancel")
	waitStatus(p, "Running")
	pool.Must(t, cl.Close())
	p.WaitLog("disconnection client=1")
	pool.MustQuery(t, p.Connect(), "SELECT 1") // the pool doesn't end with the last client
}

func TestAGracefulShutdownEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	shut(p, "gracefully", "--timeout", "1s")
	wantEnd(p)
	if _, err := pool.Query(cl, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client got %v, want 57P01", err)
	}
}

func TestAGracefulShutdownWithoutClientsIsOneAtOnce(t *testing.T) {
	t.Parallel()
	p := single(t)
	shut(p) // gracefully is the default
	wantEnd(p)
}

func TestAnImmediateShutdownTellsClientsAndEnds(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	pool.MustQuery(t, cl, "BEGIN")
	shut(p, "immediate")
	wantEnd(p)
	if _, err := pool.Query(cl, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client got %v, want 57P01", err)
	}
}

func TestTheLastLineOfAShutdownSaysHowLongItTookAndWhoWasCut(t *testing.T) {
	t.Parallel()
	p := single(t)
	clients := []*pgtest.Client{p.Connect(), p.Connect()}
	for _, cl := range clients {
		pool.MustQuery(t, cl, "SELECT 1")
	}
	shut(p, "immediate")
	wantEnd(p)
	p.WaitLog("clients_cut=2 ")
	if _, after, found := strings.Cut(p.Log(), "shutdown is complete took="); !found || strings.Contains(after, "supervisor[") {
		t.Errorf("it isn't the last line of the supervisor: %q", after)
	}
}
