package relay

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// begun returns a conversation on a backend.
func begun(c Conversation, b *Backend) Conversation {
	c.Start(b, pgwire.TxIdle)
	return c
}

func all() map[string]Conversation {
	return map[string]Conversation{
		"direct": NewShared().Direct(1, true), "pooled": NewShared().Pooled(1), "kept": NewShared().Kept(1, Trusting{}),
	}
}

// say takes chunks from the client, hear from the server.
func say(t *testing.T, c Conversation, data []byte) Passed {
	t.Helper()
	p, err := c.FromClient(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func hear(t *testing.T, c Conversation, data []byte) Passed {
	t.Helper()
	p, err := c.FromServer(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whoever asks learns where a conversation stands from each chunk, and hears the
// same between two chunks.
func TestConversationTellsWhereItStands(t *testing.T) {
	between := map[string]Stand{"direct": Resting, "pooled": Parting, "kept": Resting}
	for name, c := range all() {
		begun(c, &Backend{})
		if c.Stand() != between[name] {
			t.Errorf("%s: at first %d", name, c.Stand())
		}
		for _, step := range []struct {
			up, down string
			want     Stand
		}{
			{"begin", "T", InBlock},
			{"fail", "E", InBlock},
			{"rollback", "I", between[name]},
		} {
			if p := say(t, c, queryMsg(step.up)); p.Stand != Busy || c.Stand() != Busy || !bytes.Equal(p.ToServer, queryMsg(step.up)) {
				t.Errorf("%s: said %s: %+v, %d", name, step.up, p, c.Stand())
			}
			answer := join(done, ready(step.down))
			if p := hear(t, c, answer); p.Stand != step.want || c.Stand() != step.want || !bytes.Equal(p.ToClient, answer) {
				t.Errorf("%s: answered %s: %+v, %d", name, step.up, p, c.Stand())
			}
		}
		if p := say(t, c, bye); !p.Leaving || len(p.ToServer) > 0 {
			t.Errorf("%s: goodbye: %+v", name, p)
		}
	}
}

func TestConversationAllocatesNothingPerQuery(t *testing.T) {
	up := join(bind, exec, sync_)
	down := join(msg('2', ""), msg('D', strings.Repeat("x", 100)), done, ready("I"))
	for name, c := range all() {
		b := &Backend{}
		begun(c, b)
		n := testing.AllocsPerRun(1000, func() {
			say(t, c, up)
			switch hear(t, c, down).Stand {
			case Resting:
			case Parting:
				c.Part()
				c.Start(b, pgwire.TxIdle)
			default:
				t.Fatal("busy")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations for one query", name, n)
		}
	}
}

// What a client may have left on a backend is noted there, under its name.
func TestPartingNotesWhatIsLeftBehind(t *testing.T) {
	for name, c := range all() {
		for _, step := range []struct {
			tag   string
			dirty map[string]bool
		}{
			{"", map[string]bool{"direct": false, "pooled": false, "kept": false}},
			{"SELECT 1", map[string]bool{"direct": true, "pooled": false, "kept": true}},
			{"LISTEN", map[string]bool{"direct": true, "pooled": true, "kept": true}},
		} {
			b := &Backend{}
			begun(c, b)
			if step.tag != "" {
				say(t, c, queryMsg("x"))
				hear(t, c, join(msg('C', step.tag+"\x00"), ready("I")))
			}
			c.Part()
			if want := step.dirty[name]; b.Dirty != want || want && b.DirtyBy != 1 {
				t.Errorf("%s, %q: dirty %v by %d", name, step.tag, b.Dirty, b.DirtyBy)
			}
		}
	}
}

// A client that keeps its backend survives the loss of it only if it can't notice.
func TestDirectClientMovesOnlyUnnoticed(t *testing.T) {
	parameter := pgwire.AppendParameterStatus(nil, "TimeZone", "UTC")
	for name, tc := range map[string]struct {
		still    bool // it may not move at all
		up, down []byte
		want     Fate
	}{
		"nothing said":            {want: Waits},
		"a parameter was told":    {down: parameter, want: Waits},
		"half a parameter":        {down: parameter[:9], want: Ends},
		"half a header":           {down: parameter[:3], want: Ends},
		"may not move":            {still: true, want: Ends},
		"half a query":            {up: query[:3], want: Ends},
		"query answered":          {up: query, down: join(done, ready("I")), want: Ends},
		"answer to nothing":       {down: ready("I"), want: Ends},
		"server has said why":     {down: errorMsg("FATAL", "57P01"), want: Told},
		"half of what it says":    {down: errorMsg("FATAL", "57P01")[:20], want: Ends},
		"said why after a query":  {up: query, down: errorMsg("FATAL", "57P01"), want: Told},
		"an error is no farewell": {up: query, down: errorMsg("ERROR", "22012"), want: Ends},
	} {
		c := NewShared().Direct(1, !tc.still)
		begun(c, &Backend{})
		if tc.up != nil {
			say(t, c, tc.up)
		}
		if tc.down != nil {
			hear(t, c, tc.down)
		}
		if got := c.Lose(); got.Fate != tc.want || got.ToClient != nil || got.Rest != nil {
			t.Errorf("%s: %+v, want %d", name, got, tc.want)
		}
	}
}

// A goodbye of the last server, and what else belonged to it, isn't held against
// the next one.
func TestNextBackendBeginsAfresh(t *testing.T) {
	c := NewShared().Pooled(1)
	begun(c, &Backend{})
	c.Part()
	half := queryMsg("SELECT 1")[:9]
	if p := say(t, c, half); !bytes.Equal(p.ToServer, half) {
		t.Fatalf("a backend is needed for %q", p.ToServer)
	}
	begun(c, &Backend{})
	say(t, c, half)
	hear(t, c, errorMsg("FATAL", "57P01"))
	loss := c.Lose()
	if loss.Fate != Waits || !bytes.Equal(loss.Rest, half) {
		t.Fatalf("%+v", loss)
	}
	begun(c, &Backend{})
	say(t, c, loss.Rest)
	if p := say(t, c, queryMsg("SELECT 1")[9:]); p.Stand != Busy {
		t.Fatalf("%+v", p)
	}
	if p := hear(t, c, join(done, ready("I"))); p.Stand != Parting {
		t.Errorf("the backend is kept: %+v", p)
	}
}

// Counting is one matter for all conversations.
func TestTotalsAreOfAllConversations(t *testing.T) {
	s := NewShared()
	for _, c := range []Conversation{s.Direct(1, true), s.Pooled(2)} {
		begun(c, &Backend{})
		say(t, c, queryMsg("begin"))
		hear(t, c, join(done, ready("T")))
		say(t, c, join(bind, exec, sync_))
		hear(t, c, join(msg('2', ""), done, ready("T")))
		c.End()
	}
	sent := uint64(2 * len(join(queryMsg("begin"), bind, exec, sync_)))
	received := uint64(2 * len(join(done, ready("T"), msg('2', ""), done, ready("T"))))
	want := Totals{Queries: 4, Transactions: 2, Sent: sent, Received: received}
	if d := cmp.Diff(want, s.Totals); d != "" {
		t.Error(d)
	}
}
