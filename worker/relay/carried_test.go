package relay

import (
	"reflect"
	"testing"
	"unique"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// everything is a conversation with each field set that can be set at rest.
func everything() *Carried {
	values := []string{"app", "UTF8", "ISO", "postgres", "UTC", "on"}
	return &Carried{
		Tracked: values, Initial: []string{"a", "b", "c", "d", "e", "f"}, Untracked: "\x00x=y\x00",
		Named: []Named{{
			Name: "n", Key: "0123456789abcdef", Text: "SELECT 1\x00\x00\x00", Settings: values, Traits: 5, Naming: true, Params: "\x00\x00", Hash: "fedcba9876543210",
		}},
		Unnamed: Unnamed{Exists: true, Here: true, Kept: true, Used: true, Traits: 7, Number: 9, Text: "SELECT 2\x00\x00\x00"},
		Portal:  3, Portals: 4, Block: uint8(failedBlock), Discarding: true, Fails: true, Failure: []byte("error"),
	}
}

func TestConversationIsCarriedWithEveryField(t *testing.T) {
	want := everything()
	v := reflect.ValueOf(*want)
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; name {
		case "Keeps", "Moves", "Touched", "Keep": // of the other kinds
		default:
			if v.Field(i).IsZero() {
				t.Errorf("this test doesn't set %s", name)
			}
		}
	}
	talk, err := NewShared().Continue(1, want, nil, Hold{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := talk.Carry()
	if d := cmp.Diff(want, &got); d != "" {
		t.Errorf("-carried +continued:\n%s", d)
	}
	p := talk.(*Pooled)
	if p.text != len("n")+len("SELECT 1\x00\x00\x00") {
		t.Errorf("the statements have %d bytes", p.text)
	}
}

// everythingKept is a kept session with each field set.
func everythingKept() *Carried {
	c := everything()
	effect := KeptEffect{There: true, Sets: []Assignment{{Name: "d", SQL: "SET d = 1"}}, Mark: "x", Lasts: true}
	c.Keep = Keep{
		On: true, Trusts: true, Sets: []Assignment{{Name: "a", SQL: "RESET a", Reset: true}}, Pending: []Assignment{{Name: "b", SQL: "SET b = 1"}},
		Mark: "LISTEN", Blind: "a search_path", Touched: true, Unseen: true, Portal: effect, Portals: effect, Unnamed: effect,
	}
	return c
}

func TestKeptSessionIsCarriedWithEveryField(t *testing.T) {
	want := everythingKept()
	for _, v := range []reflect.Value{reflect.ValueOf(want.Keep), reflect.ValueOf(want.Keep.Portal), reflect.ValueOf(want.Keep.Sets[0])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("this test doesn't set %s", v.Type().Field(i).Name)
			}
		}
	}
	for _, b := range []*Backend{nil, {}} {
		talk, err := NewShared().Continue(1, want, b, Hold{Status: pgwire.TxOpen}, Trusting{})
		if err != nil {
			t.Fatal(err)
		}
		k, ok := talk.(*Kept)
		if !ok || b != nil && (k.line.keep != &k.keep || !k.Movable()) {
			t.Fatalf("%T isn't a kept session", talk)
		}
		got := talk.Carry()
		if d := cmp.Diff(want, &got); d != "" {
			t.Errorf("-carried +continued:\n%s", d)
		}
	}
}

// The texts of the statements are read by the new worker's reader, which learns the server's version from the backend.
func TestCarriedStatementsOfAKeptSessionAreReadAgain(t *testing.T) {
	c := everythingKept()
	c.Keep.Trusts, c.Keep.Mark, c.Keep.Blind = false, "", ""
	c.Named[0].Text = "SELECT pg_advisory_lock(1)\x00\x00\x00"
	b, reader := &Backend{Params: ParamsOf([]pgwire.Param{{Name: "server_version", Value: "17.2"}})}, NewKnowing(nil)
	talk, err := NewShared().Continue(1, c, b, Hold{Status: pgwire.TxIdle}, reader)
	if err != nil {
		t.Fatal(err)
	}
	if e := talk.(*Kept).effectOn([]byte("n")); e == nil || e.Mark != "function pg_advisory_lock" {
		t.Errorf("the statement leaves %+v", e)
	}
	if reader.major != 17 {
		t.Errorf("the reader knows version %d", reader.major)
	}
}

func TestHeldBackendIsCarriedWithEveryField(t *testing.T) {
	want := Hold{Status: 'T', Resets: true, Indelible: true, Dirty: true, Sequences: true, MaySetFurther: true}
	for _, c := range []*Carried{everything(), {Keeps: true, Moves: true, Touched: true}} {
		b := &Backend{}
		talk, err := NewShared().Continue(1, c, b, want, nil)
		if err != nil {
			t.Fatal(err)
		}
		expect := want
		if c.Keeps { // what only the other kind has
			expect.Dirty, expect.Sequences, expect.MaySetFurther = false, false, false
		}
		if d := cmp.Diff(expect, b.Hold()); d != "" {
			t.Errorf("-carried +continued:\n%s", d)
		}
		if !talk.Movable() || talk.Stand() != InBlock {
			t.Errorf("movable %v, stands at %d", talk.Movable(), talk.Stand())
		}
		got := talk.Carry()
		if d := cmp.Diff(c, &got); d != "" {
			t.Errorf("-carried +continued:\n%s", d)
		}
	}
}

// Two clients share a statement in their new worker, too, but not one whose key is that of another
// text.
func TestCarriedStatementsAreSharedUnderTheirOwnKey(t *testing.T) {
	s := NewShared()
	c := everything()
	c.Named[0].Naming = false
	with, err := settingsFrom(c.Named[0].Settings)
	if err != nil {
		t.Fatal(err)
	}
	key := keyWith(baseOf(c.Named[0].Text, with), description{c.Named[0].Params, statementKey([]byte(c.Named[0].Hash))})
	c.Named[0].Key = string(key[:])
	liar := everything()
	liar.Named[0].Key, liar.Named[0].Text = string(key[:]), "SELECT 666\x00\x00\x00"
	var talks []*Pooled
	for i, x := range []*Carried{c, c, liar} {
		talk, err := s.Continue(uint64(i), x, nil, Hold{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		talks = append(talks, talk.(*Pooled))
	}
	if talks[0].names["n"] != talks[1].names["n"] {
		t.Error("the same statement isn't shared")
	}
	if talks[2].names["n"] == talks[0].names["n"] {
		t.Error("another text is shared under the same key")
	}
	for _, p := range talks {
		p.End()
	}
	if len(s.statements.byKey) != 0 {
		t.Errorf("%d statements are left", len(s.statements.byKey))
	}
}

func TestWrongConversationIsRefusedAndLeavesNothing(t *testing.T) {
	for name, spoil := range map[string]func(c *Carried, h *Hold){
		"tracked":   func(c *Carried, _ *Hold) { c.Tracked = c.Tracked[1:] },
		"initial":   func(c *Carried, _ *Hold) { c.Initial = nil },
		"block":     func(c *Carried, _ *Hold) { c.Block = 3 },
		"settings":  func(c *Carried, _ *Hold) { c.Named[1].Settings = nil },
		"key":       func(c *Carried, _ *Hold) { c.Named[1].Key = "short" },
		"hash":      func(c *Carried, _ *Hold) { c.Named[1].Hash = "short" },
		"text":      func(c *Carried, _ *Hold) { c.Named[1].Text = "SELECT" },
		"same name": func(c *Carried, _ *Hold) { c.Named = append(c.Named, c.Named[0]) },
		"unnamed":   func(c *Carried, _ *Hold) { c.Unnamed.Text = "SELECT" },
		"status":    func(_ *Carried, h *Hold) { h.Status = 'X' },
		"NUL":       func(c *Carried, _ *Hold) { c.Keep = Keep{On: true, Pending: []Assignment{{SQL: "SET a = 1\x00"}}} },
		"many sets": func(c *Carried, _ *Hold) { c.Keep = Keep{On: true, Sets: make([]Assignment, maxSets+1)} },
		"kept":      func(c *Carried, _ *Hold) { c.Keep, c.Block = Keep{On: true}, 3 },
	} {
		s, c, h := NewShared(), everything(), Hold{Status: pgwire.TxIdle}
		good := c.Named[0]
		key := keyWith(baseOf(good.Text, mustSettings(t, good.Settings)), description{good.Params, statementKey([]byte(good.Hash))})
		good.Name, good.Key = "first", string(key[:]) // it is shared
		c.Named = append([]Named{good}, c.Named...)
		spoil(c, &h)
		if _, err := s.Continue(1, c, &Backend{}, h, Trusting{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if len(s.statements.byKey) != 0 {
			t.Errorf("%s: %d statements are left", name, len(s.statements.byKey))
		}
	}
	if _, err := NewShared().Continue(1, &Carried{Keeps: true}, nil, Hold{}, nil); err == nil {
		t.Error("a client that keeps its backend is continued without one")
	}
}

func mustSettings(t *testing.T, list []string) (h unique.Handle[settings]) {
	t.Helper()
	h, err := settingsFrom(list)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The bits of traits go from worker to worker, so they never change.
func TestTraitsKeepTheirBits(t *testing.T) {
	for i, bit := range []traits{
		traitSets, traitLasting, traitTemp, traitSession, traitIndelible, traitSequence, traitListen, traitNames, traitHold,
		traitOpens, traitCloses, traitCommits, traitOutdated,
	} {
		if bit != 1<<i {
			t.Errorf("trait %d is %#x", i, bit)
		}
	}
	if noBlock != 0 || lostBlock != 1 || failedBlock != 2 {
		t.Error("the blocks have other numbers")
	}
	if d := cmp.Diff([6]string{"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings"}, tracked); d != "" {
		t.Errorf("other parameters are tracked:\n%s", d)
	}
}
