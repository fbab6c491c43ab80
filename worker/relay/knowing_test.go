package relay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

func TestKnowingSaysWhatTextsLeave(t *testing.T) {
	k := NewKnowing([]string{"app.f"})
	for text, want := range map[string]string{
		"SELECT lower('a'), app.f()":      "<nil>",
		"SET LOCAL a = 1":                 "[] ",
		"SET LOCAL App.x = 1":             "[{app.x  false}] ",
		"SET A = 1; RESET b; RESET ALL":   "[{a SET A TO 1 false} {b RESET b true} {  true}] ",
		"SET a = 1; SELECT g()":           "[] function g",
		"SET SESSION AUTHORIZATION 'joe'": "[{session_authorization SET SESSION AUTHORIZATION 'joe' false}] ",
	} {
		for range 2 { // read, and remembered
			got := "<nil>"
			if e := k.Read([]byte(text)); e != nil {
				got = fmt.Sprintf("%v %s", e.Sets, e.Mark)
			}
			if got != want {
				t.Errorf("%s leaves %s, want %s", text, got, want)
			}
		}
	}
	for i := range 3 * maxSeen {
		k.Read(fmt.Appendf(nil, "SELECT %d", i))
	}
	if k.Read([]byte("SELECT '" + strings.Repeat("x", longestSeen) + "'")); len(k.seen) > maxSeen {
		t.Errorf("%d texts are remembered", len(k.seen))
	}
}

func TestKnowingIsBlindWhereTextsCantBeRead(t *testing.T) {
	k := NewKnowing(nil)
	parameters := func(more ...string) *Params {
		p := ParamsOf([]pgwire.Param{{Name: "server_version", Value: "17.2 (Debian)"}, {Name: "client_encoding", Value: "UTF8"}})
		for i := 0; i < len(more); i += 2 {
			p.Set(more[i], more[i+1])
		}
		return &p
	}
	const newer = "SELECT json_table('x', 'y')"
	if k.Read([]byte(newer)) == nil {
		t.Error("a function of PostgreSQL 17 is known without a server of that version")
	}
	if why := k.Blind(parameters()); why != "" || k.Read([]byte(newer)) != nil {
		t.Errorf("%q; the function is unknown to a server of version 17", why)
	}
	for name, value := range map[string]string{"client_encoding": "SJIS", "standard_conforming_strings": "off", "search_path": "a, pg_catalog"} {
		if why := k.Blind(parameters(name, value)); !strings.Contains(why, name) {
			t.Errorf("%s = %s: %q", name, value, why)
		}
	}
	if k.Blind(parameters("server_version", "15.1")); k.Read([]byte(newer)) == nil {
		t.Error("with an older server, too, functions of the newer one are known")
	}
}

// TestMarksThatLastOutliveDiscardAll: the others end with it.
func TestMarksThatLastOutliveDiscardAll(t *testing.T) {
	for _, tc := range []struct {
		e    Effect
		want string
	}{{Effect{Mark: "a"}, ""}, {Effect{Mark: "b", Lasts: true}, "b"}} {
		k := &keeping{reader: Trusting{}}
		k.answered(&tc.e)
		k.tag("DISCARD ALL", &owed{kind: 'Q'})
		if k.mark != tc.want {
			t.Errorf("after DISCARD ALL the mark is %q, want %q", k.mark, tc.want)
		}
	}
}
