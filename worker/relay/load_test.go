package relay

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// What a client keeps its backend for, with both kinds of conversation. unlike is what Direct
// says where it can't tell as well.
func TestWhatAClientKeepsItsBackendFor(t *testing.T) {
	begin, flush := msg('Q', "BEGIN\x00"), msg('H', "")
	begun := s(msg('C', "BEGIN\x00"), ready("T"))
	for _, tt := range []struct {
		name   string
		steps  []step
		direct Load
		pooled Load
	}{
		{"a query runs", []step{c(query)}, Statement, Statement},
		{"a query has returned rows", []step{c(query), s(msg('T', "\x00\x00"), msg('D', "\x00\x00"))}, Statement, Statement},
		{"in a transaction", []step{c(begin), begun}, Transaction, Transaction},
		{"in a failed transaction", []step{c(begin), begun, c(query), s(errorMsg("ERROR", "42601"), ready("E"))}, Transaction, Transaction},
		{"a query in a transaction", []step{c(begin), begun, c(query)}, Statement, Statement},
		{"the header of a message in a transaction", []step{c(begin), begun, c(query[:3])}, Transaction, Transaction},
		{"one of two queries is answered", []step{c(query, query), s(done, ready("I"))}, Statement, Statement},
		{"a Parse without a Sync is answered", []step{c(begin), begun, c(parse, flush), s(msg('1', ""))}, Transaction, Transaction},
		{
			"an Execute without a Sync is answered",
			[]step{c(begin), begun, c(parse, bind, exec, flush), s(msg('1', ""), msg('2', ""), done)},
			Statement, Transaction,
		},
		{"copy data are awaited", []step{c(query), s(msg('G', "\x00\x00\x00"))}, Statement, Statement},
		{"the server is about to close", []step{c(query), s(errorMsg("FATAL", "57P01"))}, Unclear, Unclear},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for kind, want := range map[string]Load{"direct": tt.direct, "pooled": tt.pooled} {
				if got := loadAfter(t, kind, tt.steps); got != want {
					t.Errorf("%s: %d, want %d", kind, got, want)
				}
			}
		})
	}
}

func loadAfter(t *testing.T, kind string, steps []step) Load {
	t.Helper()
	var v Conversation = NewShared().Direct(1, false)
	if kind == "pooled" {
		v = NewShared().Pooled(1)
	}
	b := &Backend{}
	if got := v.Load(); got != Nothing {
		t.Errorf("%s without a backend: %d", kind, got)
	}
	v.Start(b, pgwire.TxIdle)
	for _, st := range steps {
		say := v.FromClient
		if st.server {
			say = v.FromServer
		}
		if _, err := say(st.data); err != nil {
			t.Fatal(err)
		}
	}
	return v.Load()
}

// Steps tell one statement from the next, also where a client never lets the server rest.
func TestEachStatementIsAStep(t *testing.T) {
	for _, kind := range []string{"direct", "pooled"} {
		var v Conversation = NewShared().Direct(1, false)
		if kind == "pooled" {
			v = NewShared().Pooled(1)
		}
		b := &Backend{}
		v.Start(b, pgwire.TxIdle)
		last := b.Steps
		moves := func(what string, want bool, say func([]byte) (Passed, error), data ...[]byte) {
			t.Helper()
			for _, d := range data {
				if _, err := say(d); err != nil {
					t.Fatal(err)
				}
			}
			if (b.Steps != last) != want {
				t.Errorf("%s: %s: from %d to %d steps", kind, what, last, b.Steps)
			}
			last = b.Steps
		}
		row := msg('D', "\x00\x00")
		moves("two queries", false, v.FromClient, query, query)
		moves("a row", false, v.FromServer, msg('T', "\x00\x00"), row)
		moves("the end of the first query", true, v.FromServer, done, ready("I"))
		moves("a row of the second query", false, v.FromServer, msg('T', "\x00\x00"), row)
		moves("the end of the second query", true, v.FromServer, done, ready("I"))
		moves("a query of two statements", false, v.FromClient, query)
		moves("the end of its first statement", false, v.FromServer, done)
		moves("the end of both", true, v.FromServer, done, ready("I"))
		moves("an Execute without a Sync", false, v.FromClient, parse, bind, exec)
		moves("further ones behind it", false, v.FromClient, bind, exec, bind, exec)
		moves("the end of the first Execute", true, v.FromServer, msg('1', ""), msg('2', ""), done)
		moves("a row of the second", false, v.FromServer, msg('2', ""), row)
		moves("the end of the second Execute", true, v.FromServer, done)
		moves("the Sync", false, v.FromClient, sync_)
		moves("the end of the third Execute", true, v.FromServer, msg('2', ""), done)
		moves("the end of all", true, v.FromServer, ready("I"))
	}
}
