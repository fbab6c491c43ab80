package relay

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// leaving is a Reader that marks texts which begin with "leave", and reads others like Trusting.
type leaving struct{ Trusting }

func (r leaving) Read(text []byte) *Effect {
	if what, ok := strings.CutPrefix(string(text), "leave "); ok {
		return &Effect{Mark: what}
	}
	return r.Trusting.Read(text)
}

func (leaving) Unread(what string) *Effect { return &Effect{Mark: what} }

// told is what a server answers to a Query with one statement.
func told(tag, status string) []byte { return join(msg('C', tag+"\x00"), ready(status)) }

// refusal is a server's error.
func refusal() []byte { return msg('E', "SERROR\x00VERROR\x00C22012\x00Mno\x00\x00") }

// turn is what a client says and what the server answers, in one chunk.
type turn struct{ up, down []byte }

// simple is a Query with its answer.
func simple(text, tag, status string) turn { return turn{queryMsg(text), told(tag, status)} }

// fails is a Query that fails.
func fails(text, status string) turn { return turn{queryMsg(text), join(refusal(), ready(status))} }

// extended are Parse, Bind and Execute of statements, each with its tag, and one Sync.
func extended(status string, textsAndTags ...string) (x turn) {
	for i := 0; i < len(textsAndTags); i += 2 {
		x.up = join(x.up, batch(textsAndTags[i]))
		x.down = join(x.down, msg('1', ""), msg('2', ""))
		if tag := textsAndTags[i+1]; tag == "" {
			x.down = join(x.down, refusal())
		} else {
			x.down = join(x.down, msg('C', tag+"\x00"))
		}
	}
	return turn{join(x.up, syncMsg), join(x.down, ready(status))}
}

// unanswered is something that the server hasn't answered when it is lost.
func unanswered(up []byte) turn { return turn{up, nil} }

var keptCases = map[string]struct {
	turns []turn
	want  string // the SQL for the next backend
	stuck string // why there can be none
}{
	"nothing":                          {turns: []turn{simple("SELECT 1", "SELECT 1", "I")}},
	"a SET":                            {turns: []turn{simple("SET a TO 1", "SET", "I")}, want: "SET a TO 1;"},
	"the last":                         {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("set b = 'x y'", "SET", "I"), simple(" SET SESSION A=2 ;", "SET", "I")}, want: "set b = 'x y';SET SESSION A=2;"},
	"a comment":                        {turns: []turn{simple("SET a TO 1 -- job 7", "SET", "I"), simple("SET ROLE x", "SET", "I")}, want: "SET a TO 1 -- job 7\n;SET ROLE x;"},
	"a failed":                         {turns: []turn{fails("SET a TO 1", "I")}},
	"several":                          {turns: []turn{{queryMsg("SET a TO 1; SET b TO ';'; SELECT 1"), join(msg('C', "SET\x00"), msg('C', "SET\x00"), told("SELECT 1", "I"))}}, want: "SET a TO 1;SET b TO ';';"},
	"several, of which the last fails": {turns: []turn{{queryMsg("SET a TO 1; SELECT 1/0"), join(msg('C', "SET\x00"), refusal(), ready("I"))}}},
	"RESET":                            {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("SET b TO 1", "SET", "I"), simple("RESET a", "RESET", "I")}, want: "SET b TO 1;"},
	"RESET of a custom parameter":      {turns: []turn{simple("SET a.b TO 1", "SET", "I"), simple("RESET a.b", "RESET", "I"), simple("SET c TO 1", "SET", "I")}, want: "RESET a.b;SET c TO 1;"},
	"DEFAULT":                          {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("SET a = default", "SET", "I")}},
	"RESET ALL":                        {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("SET ROLE x", "SET", "I"), simple("RESET ALL", "RESET", "I")}, want: "SET ROLE x;"},
	"identities":                       {turns: []turn{simple("SET ROLE x", "SET", "I"), simple("SET SESSION AUTHORIZATION y", "SET", "I"), simple("SET ROLE z", "SET", "I")}, want: "SET SESSION AUTHORIZATION y;SET ROLE z;"},
	"a new identity ends the role":     {turns: []turn{simple("SET ROLE x", "SET", "I"), simple("SET SESSION AUTHORIZATION DEFAULT", "SET", "I")}},
	"characteristics": {
		turns: []turn{simple("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET", "I"), simple("RESET default_transaction_read_only", "RESET", "I")},
		want:  "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;RESET default_transaction_read_only;",
	},
	"local": {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET LOCAL a TO 1", "SET", "T"), simple("SET TRANSACTION READ ONLY", "SET", "T"), simple("COMMIT", "COMMIT", "I")}},
	"a custom parameter of a transaction": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET LOCAL App.x TO 1", "SET", "T"), simple("COMMIT", "COMMIT", "I")},
		want:  `RESET "app"."x";`,
	},
	"one in a message": {
		turns: []turn{{queryMsg("BEGIN; SET LOCAL a.b TO 1; COMMIT"), join(msg('C', "BEGIN\x00"), msg('C', "SET\x00"), told("COMMIT", "I"))}},
		want:  `RESET "a"."b";`,
	},
	"one that has a value": {
		turns: []turn{simple("SET a.b TO 1", "SET", "I"), simple("BEGIN", "BEGIN", "T"), extended("T", "SET LOCAL a.b TO 2", "SET"), simple("COMMIT", "COMMIT", "I")},
		want:  "SET a.b TO 1;",
	},
	"one that gets a value, and one for the transaction": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a.b TO 1", "SET", "T"), simple("SET LOCAL a.b TO 2", "SET", "T"), simple("COMMIT", "COMMIT", "I")},
		want:  "SET a.b TO 1;",
	},
	"one that is rolled back": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a.b TO 1", "SET", "T"), simple("ROLLBACK", "ROLLBACK", "I")},
		want:  `RESET "a"."b";`,
	},
	"one that is refused":        {turns: []turn{fails("SET a.b TO 1", "I")}},
	"one under way":              {turns: []turn{simple("BEGIN", "BEGIN", "T"), unanswered(queryMsg("SET LOCAL a.b TO 1"))}},
	"RESET ALL of custom ones":   {turns: []turn{simple("SET a.b TO 1", "SET", "I"), simple("SET c TO 1", "SET", "I"), simple("RESET ALL", "RESET", "I")}, want: `RESET "a"."b";`},
	"DISCARD ALL of custom ones": {turns: []turn{simple("SET a.b TO 1", "SET", "I"), simple("DISCARD ALL", "DISCARD ALL", "I")}, want: `RESET "a"."b";`},
	"reported":                   {turns: []turn{{queryMsg("SET TimeZone TO 'UTC'"), join(msg('C', "SET\x00"), msg('S', "TimeZone\x00UTC\x00"), ready("I"))}}, want: "SET TimeZone TO E'UTC';"},

	"a block":    {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("COMMIT", "COMMIT", "I")}, want: "SET a TO 1;"},
	"a rollback": {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("ROLLBACK", "ROLLBACK", "I")}},
	"a rolled-back RESET": {
		turns: []turn{simple("SET a TO 1", "SET", "I"), simple("BEGIN", "BEGIN", "T"), simple("RESET a", "RESET", "T"), simple("ROLLBACK", "ROLLBACK", "I")},
		want:  "SET a TO 1;",
	},
	"a failed COMMIT":          {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), fails("COMMIT", "I")}},
	"COMMIT of a failed block": {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), fails("SELECT", "E"), simple("COMMIT", "ROLLBACK", "I")}},
	"COMMIT AND CHAIN": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("COMMIT AND CHAIN", "COMMIT", "T"), simple("SET a TO 2", "SET", "T"), simple("ROLLBACK", "ROLLBACK", "I")},
		want:  "SET a TO 1;",
	},
	"ROLLBACK AND CHAIN": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("ROLLBACK AND CHAIN", "ROLLBACK", "T"), simple("SET b TO 2", "SET", "T"), simple("COMMIT", "COMMIT", "I")},
		want:  "SET b TO 2;",
	},
	"PREPARE TRANSACTION": {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION", "I")}, want: "SET a TO 1;"},
	"a savepoint without a setting": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SAVEPOINT s", "SAVEPOINT", "T"), simple("ROLLBACK TO s", "ROLLBACK", "T"), simple("SET a TO 1", "SET", "T"), simple("COMMIT", "COMMIT", "I")},
		want:  "SET a TO 1;",
	},
	"a savepoint with a setting": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SAVEPOINT s", "SAVEPOINT", "T"), simple("SET a TO 1", "SET", "T"), simple("ROLLBACK TO s", "ROLLBACK", "T"), simple("COMMIT", "COMMIT", "I")},
		stuck: markUndone,
	},
	"a savepoint in one message": {
		turns: []turn{
			simple("BEGIN", "BEGIN", "T"),
			{queryMsg("SAVEPOINT s; SET ROLE x; ROLLBACK TO s"), join(msg('C', "SAVEPOINT\x00"), msg('C', "SET\x00"), told("ROLLBACK", "T"))},
			simple("COMMIT", "COMMIT", "I"),
		},
		stuck: markUndone,
	},
	"a savepoint in one message, without a setting": {
		turns: []turn{
			simple("BEGIN", "BEGIN", "T"),
			{queryMsg("SAVEPOINT s; SELECT 1; ROLLBACK TO s"), join(msg('C', "SAVEPOINT\x00"), msg('C', "SELECT 1\x00"), told("ROLLBACK", "T"))},
			simple("SET a TO 1", "SET", "T"), simple("COMMIT", "COMMIT", "I"),
		},
		want: "SET a TO 1;",
	},
	"a savepoint and a named portal": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("SAVEPOINT s", "SAVEPOINT", "T"), {
			join(parseMsg("", "ROLLBACK TO s"), msg('B', "p\x00\x00\x00\x00\x00\x00\x00\x00"), parseMsg("", "COMMIT"), bindMsg(""),
				msg('E', "p\x00\x00\x00\x00\x00"), syncMsg),
			join(msg('1', ""), msg('2', ""), msg('1', ""), msg('2', ""), told("ROLLBACK", "T")),
		}, simple("COMMIT", "COMMIT", "I")},
		stuck: markUndone,
	},
	"a block in one message": {
		turns: []turn{{queryMsg("BEGIN; SET a TO 1; ROLLBACK"), join(msg('C', "BEGIN\x00"), msg('C', "SET\x00"), told("ROLLBACK", "I"))}},
		stuck: markUndone,
	},
	"an undone block and another": {
		turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), {queryMsg("ROLLBACK; BEGIN"), join(msg('C', "ROLLBACK\x00"), told("BEGIN", "T"))}},
		stuck: markUndone,
	},
	"a lost block": {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("BEGIN", "BEGIN", "T"), simple("SET a TO 2", "SET", "T")}, want: "SET a TO 1;"},

	"extended":                  {turns: []turn{extended("I", "SET a TO 1", "SET", "SET b TO 2", "SET")}, want: "SET a TO 1;SET b TO 2;"},
	"extended, undone":          {turns: []turn{extended("I", "SET a TO 1", "SET", "SELECT 1/0", "")}},
	"extended, a block":         {turns: []turn{extended("T", "BEGIN", "BEGIN", "SET a TO 1", "SET"), extended("I", "COMMIT", "COMMIT")}, want: "SET a TO 1;"},
	"extended, COMMIT and more": {turns: []turn{extended("I", "BEGIN", "BEGIN", "SET a TO 1", "SET", "COMMIT", "COMMIT", "SELECT 1/0", "")}, want: "SET a TO 1;"},
	"a named portal": {
		turns: []turn{{
			join(parseMsg("", "SET a TO 1"), msg('B', "p\x00\x00\x00\x00\x00\x00\x00\x00"), msg('E', "p\x00\x00\x00\x00\x00"), syncMsg),
			join(msg('1', ""), msg('2', ""), told("SET", "I")),
		}},
		stuck: markPortal,
	},

	"DISCARD ALL":                     {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("leave it", "SELECT 1", "I"), simple("DISCARD ALL", "DISCARD ALL", "I")}},
	"DISCARD ALL, and then a mark":    {turns: []turn{{join(queryMsg("DISCARD ALL"), queryMsg("leave it")), join(told("DISCARD ALL", "I"), told("SELECT 1", "I"))}}, stuck: "it"},
	"a mark":                          {turns: []turn{simple("leave a temporary table", "SELECT 1", "I")}, stuck: "a temporary table"},
	"a mark of a failed statement":    {turns: []turn{fails("leave a lock", "I")}, stuck: "a lock"},
	"a mark of the extended protocol": {turns: []turn{extended("I", "leave a lock", "SELECT 1")}, stuck: "a lock"},
	"a statement only parsed":         {turns: []turn{{join(parseMsg("s", "leave a lock"), syncMsg), join(msg('1', ""), msg('t', "\x00\x00"), msg('n', ""), ready("I"))}}},
	"a function by its number":        {turns: []turn{{msg('F', ""), join(msg('V', "\xff\xff\xff\xff"), ready("I"))}}, stuck: "a function that was called by its number"},
	"a statement made by SQL":         {turns: []turn{{join(bindMsg("x"), executeMsg(), syncMsg), join(msg('2', ""), told("SELECT 1", "I"))}}, stuck: "a statement that PREPARE has made"},
	"a SET that isn't understood":     {turns: []turn{simple(`SET a TO '\'`, "SET", "I")}, stuck: markUnseen},
	"a SET from nowhere":              {turns: []turn{simple("SELECT 1", "SET", "I")}, stuck: markUnseen},

	"a SET under way":                      {turns: []turn{unanswered(queryMsg("SET a TO 1"))}, stuck: markOutcome},
	"a mark under way":                     {turns: []turn{unanswered(queryMsg("leave a lock"))}, stuck: markInFlight + ", and would have left a lock"},
	"a COMMIT under way":                   {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), unanswered(queryMsg("COMMIT"))}, stuck: markOutcome},
	"a COMMIT without a setting under way": {turns: []turn{simple("SET a TO 1", "SET", "I"), simple("BEGIN", "BEGIN", "T"), unanswered(queryMsg("COMMIT"))}, want: "SET a TO 1;"},
	"a Sync under way": {
		turns: []turn{{join(batch("SET a TO 1"), syncMsg), join(msg('1', ""), msg('2', ""), msg('C', "SET\x00"))}},
		stuck: markOutcome,
	},
	"no Sync yet":                    {turns: []turn{{batch("SET a TO 1"), join(msg('1', ""), msg('2', ""), msg('C', "SET\x00"))}}},
	"a query of the block under way": {turns: []turn{simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), unanswered(queryMsg("SELECT 1"))}},
}

func TestAKeptSessionKnowsWhatItHasLeft(t *testing.T) {
	for name, tt := range keptCases {
		t.Run(name, func(t *testing.T) {
			base := []pgwire.Param{{Name: "TimeZone", Value: "GMT"}}
			first, next := &Backend{Base: ParamsOf(base), Params: ParamsOf(base)}, &Backend{Base: ParamsOf(base), Params: ParamsOf(base)}
			first.Params, next.Params = first.Base.Clone(), next.Base.Clone()
			p := NewShared().Kept(1, leaving{})
			begun(p, first)
			for _, x := range tt.turns {
				say(t, p, x.up)
				hear(t, p, x.down)
			}
			loss := p.Lose()
			if loss.Why != tt.stuck || (loss.Fate == Ends) != (tt.stuck != "") {
				t.Fatalf("lost: %d because of %q, want %q", loss.Fate, loss.Why, tt.stuck)
			}
			if tt.stuck != "" {
				return
			}
			if got := p.Adapt(next, &Params{}); got != tt.want {
				t.Errorf("on the next backend: %q, want %q", got, tt.want)
			}
		})
	}
}

// A kept session has its backend until it leaves, and only then needs a reset, if it was used.
func TestAKeptSessionKeepsItsBackend(t *testing.T) {
	p := NewShared().Kept(1, Trusting{})
	b := &Backend{}
	begun(p, b)
	p.Part()
	if b.Dirty {
		t.Error("a backend that was not used is dirty")
	}
	begun(p, b)
	say(t, p, queryMsg("LISTEN x"))
	if got := hear(t, p, told("LISTEN", "I")); got.Stand != Resting || p.Load() != Nothing || !p.Keeps() {
		t.Errorf("after a transaction: %d, load %d", got.Stand, p.Load())
	}
	p.Part()
	if !b.Dirty || b.DirtyBy != 1 {
		t.Error("a backend that was used isn't dirty")
	}
}

// A text that is too long to be read may be a ROLLBACK TO SAVEPOINT.
func TestALongTextMayRollBackToASavepoint(t *testing.T) {
	p := NewShared().Kept(1, Trusting{})
	begun(p, &Backend{})
	for _, x := range []turn{
		simple("BEGIN", "BEGIN", "T"), simple("SET a TO 1", "SET", "T"), simple("SAVEPOINT s", "SAVEPOINT", "T"),
		simple("ROLLBACK TO s"+strings.Repeat(" ", maxCollect), "ROLLBACK", "T"), simple("COMMIT", "COMMIT", "I"),
	} {
		say(t, p, x.up)
		hear(t, p, x.down)
	}
	if loss := p.Lose(); loss.Why != markUndone {
		t.Errorf("lost because of %q", loss.Why)
	}
}

// What a parameter that the server reports was before a block, the client has again if the block is
// lost, also when it began with the same message, in the same write, or with the end of another one.
func TestAParameterThatWasCommittedBeforeALostBlockStays(t *testing.T) {
	reports := func(tag, zone, status string) []byte {
		return join(msg('C', tag+"\x00"), msg('S', "TimeZone\x00"+zone+"\x00"), ready(status))
	}
	for name, tt := range map[string]struct {
		turns []turn
		want  string
		stuck string
	}{
		"COMMIT AND CHAIN": {turns: []turn{
			simple("BEGIN", "BEGIN", "T"),
			{queryMsg("SET TimeZone TO 'UTC'"), reports("SET", "UTC", "T")},
			simple("COMMIT AND CHAIN", "COMMIT", "T"),
			{queryMsg("SET TimeZone TO 'EST'"), reports("SET", "EST", "T")},
		}, want: "SET TimeZone TO E'UTC';"},
		"extended, COMMIT AND CHAIN": {turns: []turn{
			simple("BEGIN", "BEGIN", "T"), {queryMsg("SET TimeZone TO 'UTC'"), reports("SET", "UTC", "T")}, extended("T", "COMMIT AND CHAIN", "COMMIT"),
		}, stuck: markOutcome},
		"SET and BEGIN in one write": {turns: []turn{
			{join(queryMsg("SET TimeZone TO 'UTC'"), queryMsg("BEGIN")), join(reports("SET", "UTC", "I"), told("BEGIN", "T"))},
		}, want: "SET TimeZone TO E'UTC';"},
		"DISCARD ALL and BEGIN in one write": {turns: []turn{
			{queryMsg("SET TimeZone TO 'UTC'"), reports("SET", "UTC", "I")},
			{join(queryMsg("DISCARD ALL"), queryMsg("BEGIN")), join(reports("DISCARD ALL", "GMT", "I"), told("BEGIN", "T"))},
		}},
		"a block alone": {turns: []turn{simple("BEGIN", "BEGIN", "T"), {queryMsg("SET TimeZone TO 'UTC'"), reports("SET", "UTC", "T")}}},
	} {
		t.Run(name, func(t *testing.T) {
			base := []pgwire.Param{{Name: "TimeZone", Value: "GMT"}}
			first, next := &Backend{Base: ParamsOf(base)}, &Backend{Base: ParamsOf(base)}
			first.Params, next.Params = first.Base.Clone(), next.Base.Clone()
			p := NewShared().Kept(1, Trusting{})
			begun(p, first)
			for _, x := range tt.turns {
				say(t, p, x.up)
				hear(t, p, x.down)
			}
			if loss := p.Lose(); loss.Why != tt.stuck {
				t.Fatalf("lost because of %q, want %q", loss.Why, tt.stuck)
			}
			if got := p.Adapt(next, &Params{}); tt.stuck == "" && got != tt.want {
				t.Errorf("on the next backend: %q, want %q", got, tt.want)
			}
		})
	}
}

// Sessions with different readers may share a prepared statement.
func TestAStatementIsReadByTheReaderOfItsSession(t *testing.T) {
	p := NewShared().Kept(1, Trusting{})
	begun(p, &Backend{})
	say(t, p, join(parseMsg("s", "leave a lock"), syncMsg))
	hear(t, p, join(msg('1', ""), msg('t', "\x00\x00"), msg('n', ""), ready("I")))
	p.keep.reader = leaving{}
	say(t, p, join(bindMsg("s"), executeMsg(), syncMsg))
	hear(t, p, join(msg('2', ""), told("SELECT 1", "I")))
	if loss := p.Lose(); loss.Why != "a lock" {
		t.Errorf("lost because of %q", loss.Why)
	}
}

func TestSettingsAreBounded(t *testing.T) {
	p := NewShared().Kept(1, Trusting{})
	begun(p, &Backend{})
	for i := range maxSets + 1 {
		hear(t, p, nil)
		say(t, p, queryMsg("SET a.x"+strings.Repeat("y", i)+" TO 1"))
		hear(t, p, told("SET", "I"))
	}
	if loss := p.Lose(); loss.Why != markTooMany {
		t.Errorf("lost because of %q", loss.Why)
	}
}

// Not only their number is bounded.
func TestTheTextOfSettingsIsBounded(t *testing.T) {
	p := NewShared().Kept(1, Trusting{})
	begun(p, &Backend{})
	for i := range 9 {
		say(t, p, queryMsg("SET a.x"+strings.Repeat("y", i)+" TO '"+strings.Repeat("z", maxSetsText/8)+"'"))
		hear(t, p, told("SET", "I"))
	}
	if loss := p.Lose(); loss.Why != markTooMany {
		t.Errorf("lost because of %q", loss.Why)
	}
}
