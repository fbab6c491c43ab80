package test

import (
	"slices"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// shut sends a shutdown command that has to be accepted.
func (p *Pool) shut(words ...string) {
	p.t.Helper()
	if out, errs, code := p.CLI(slices.Concat([]string{"shutdown"}, words)...); code != 0 {
		p.t.Fatalf("shutdown %v: exit %d, %s%s", words, code, out, errs)
	}
}

// waitStatus waits until status says this of the pooler.
func (p *Pool) waitStatus(want string) {
	p.t.Helper()
	pgtest.WaitUntil(p.t, generous, "status "+want, func() bool { return p.JSON("status")["Status"] == want }, p.Log)
}

// wantEnd waits for a regular end.
func (p *Pool) wantEnd() {
	p.t.Helper()
	if code := p.WaitEnd(); code != 0 {
		p.t.Errorf("exit code %d, want 0\n%s", code, p.Log())
	}
}

func single(t *testing.T) *Pool {
	t.Helper()
	return Start(t, Setup{Servers: nodes(pgtest.New(t, pgtest.Options{}))})
}

func TestAGracefulShutdownWaitsForClientsAndLetsNobodyIn(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	p.shut("gracefully")
	p.waitStatus("Graceful shutdown")
	wantCode(t, p.wantRefused(p.Config("postgres", "", "postgres")), "53300", "connection refused")
	mustQuery(t, cl, "SELECT 1")
	must(t, cl.Close())
	p.wantEnd()
}

func TestAGracefulShutdownCanBeCancelled(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	p.shut("gracefully")
	p.waitStatus("Graceful shutdown")
	p.shut("cancel")
	p.waitStatus("Running")
	must(t, cl.Close())
	p.WaitLog("disconnection client=1")
	mustQuery(t, p.Connect(), "SELECT 1") // it doesn't end with the last client
}

func TestAGracefulShutdownEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	p.shut("gracefully", "--timeout", "1s")
	p.wantEnd()
	if _, err := query(cl, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client got %v, want 57P01", err)
	}
}

func TestAGracefulShutdownWithoutClientsIsOneAtOnce(t *testing.T) {
	t.Parallel()
	p := single(t)
	p.shut() // gracefully is the default
	p.wantEnd()
}

func TestAnImmediateShutdownTellsClientsAndEnds(t *testing.T) {
	t.Parallel()
	p := single(t)
	cl := p.Connect()
	mustQuery(t, cl, "BEGIN")
	p.shut("immediate")
	p.wantEnd()
	if _, err := query(cl, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client got %v, want 57P01", err)
	}
}
