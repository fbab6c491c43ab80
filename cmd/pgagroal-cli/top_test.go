package main

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func TestTopOnceShowsEverythingOnce(t *testing.T) {
	sup := &fake{}
	path := listen(t, sup, 0)
	t.Setenv("COLUMNS", "80")
	got := invoke("top", "--once", "--socket", path)
	if got.code != control.ExitOK || got.errors != "" {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{"pgagroal 9.9  running  3 of 100 connections active", "one     Primary", "two     Failed (split brain)", "queries", "/s  ", "no clients"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("it lacks %q:\n%s", want, got.out)
		}
	}
	// Two samples make a rate.
	if seen := sup.seen(); strings.Count(seen, "details") != 2 || strings.Count(seen, "failover status") != 2 {
		t.Errorf("it asked %s", seen)
	}
}

func TestTopNeedsATerminal(t *testing.T) {
	got := invoke("top", "--socket", listen(t, &fake{}, 0))
	if got.code != control.ExitFailed || !strings.Contains(got.errors, "--once") {
		t.Errorf("%+v", got)
	}
	if got := invoke("top", "--once", "--socket", "/no/such/socket"); got.code != control.ExitUnreachable {
		t.Errorf("%+v", got)
	}
}
