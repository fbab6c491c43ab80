package relay

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// loss is a conversation that ends with the loss of the backend: the client has
// said up, of which down was answered. then is what it says after that.
type lossCase struct {
	up, down, then []byte
	status         byte   // of the transaction before, idle if zero
	want           string // codes and states that the client gets at once
	later          string // those that it gets for then
	needs          bool   // then needs another backend
	block          block
	closed         bool // the client can't stay
}

func executeMsg() []byte { return msg('E', "\x00\x00\x00\x00\x00") }

// batch is a statement of the extended protocol, without its Sync.
func batch(text string) []byte {
	return join(parseMsg("", text), bindMsg(""), executeMsg())
}

var (
	syncMsg = msg('S', "")
	readyI  = pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)
	readyT  = pgwire.AppendReadyForQuery(nil, pgwire.TxOpen)
)

// brief are errors by their code and ends of batches by their state.
func brief(b []byte) string {
	var words []string
	for len(b) > 0 {
		n := 1 + int(b[1])<<24 + int(b[2])<<16 + int(b[3])<<8 + int(b[4])
		switch b[0] {
		case 'E':
			words = append(words, pgwire.ParseError(b[5:n]).Code)
		case 'Z':
			words = append(words, string(b[5:n]))
		default:
			words = append(words, string(b[:1]))
		}
		b = b[n:]
	}
	return strings.Join(words, " ")
}

var lossCases = map[string]lossCase{
	"autocommit statement":           {up: queryMsg("INSERT"), want: "08007 I"},
	"statement of a block":           {up: queryMsg("INSERT"), status: 'T', want: "08006 E", block: failedBlock},
	"BEGIN":                          {up: queryMsg("BEGIN"), want: "08006 I"},
	"BEGIN of the extended protocol": {up: join(batch("BEGIN"), syncMsg), want: "08006 I"},
	"BEGIN and half of a Query":      {up: join(queryMsg("BEGIN"), queryMsg("INSERT INTO t")[:9]), want: "08006 E 08006 E", then: queryMsg("INSERT INTO t")[9:], block: failedBlock},
	"BEGIN and more in one Query":    {up: queryMsg("BEGIN; INSERT"), want: "08007 E", block: failedBlock},
	"BEGIN without its Sync":         {up: batch("BEGIN"), want: "08006", then: syncMsg, later: "E", block: failedBlock},
	"ROLLBACK AND CHAIN":             {up: queryMsg("ROLLBACK AND CHAIN"), status: 'T', want: "08006 E", block: failedBlock},
	"COMMIT":                         {up: queryMsg("COMMIT"), status: 'T', want: "08007 I"},
	"ROLLBACK":                       {up: queryMsg("ROLLBACK"), status: 'T', want: "08006 I"},
	"ROLLBACK TO":                    {up: queryMsg("ROLLBACK TO a"), status: 'T', want: "08006 E", block: failedBlock},
	"COMMIT AND CHAIN":               {up: queryMsg("COMMIT AND CHAIN"), status: 'T', want: "08007 E", block: failedBlock},
	"several statements in a block":  {up: queryMsg("INSERT; COMMIT"), status: 'T', want: "08007 I"},
	"PREPARE TRANSACTION":            {up: queryMsg("PREPARE TRANSACTION 'a'"), status: 'T', want: "08007 I"},
	"something unclear":              {up: queryMsg("SELECT 'a; BEGIN"), closed: true},
	"implicit transaction":           {up: join(batch("INSERT"), syncMsg), want: "08007 I"},
	"implicit, without its Sync":     {up: batch("INSERT"), want: "08006", then: syncMsg, later: "I"},
	"block, without its Sync":        {up: batch("INSERT"), status: 'T', want: "08006", then: syncMsg, later: "E", block: failedBlock},
	"COMMIT without its Sync":        {up: batch("COMMIT"), status: 'T', want: "08007", then: syncMsg, later: "I"},
	"BEGIN in a batch":               {up: join(batch("BEGIN"), batch("INSERT"), syncMsg), want: "08006 E", block: failedBlock},
	"batches in flight":              {up: join(batch("INSERT"), syncMsg, batch("INSERT"), syncMsg), want: "08007 I 08007 I"},
	"queries in flight":              {up: join(queryMsg("BEGIN"), queryMsg("INSERT"), queryMsg("COMMIT")), want: "08006 E 08006 E 08007 I"},
	"the second of two":              {up: join(queryMsg("INSERT"), queryMsg("INSERT")), down: join(msg('C', "INSERT 0 1\x00"), readyI), want: "C I 08007 I"},
	"block that idles":               {up: queryMsg("INSERT"), down: join(msg('C', "INSERT 0 1\x00"), readyT), want: "C T", block: lostBlock, then: queryMsg("SELECT"), later: "08006 E"},
	"block that idles, then COMMIT":  {status: 'T', block: lostBlock, then: queryMsg("COMMIT"), later: "08006 I"},
	"block that idles, then a batch": {status: 'T', block: lostBlock, then: join(batch("SELECT"), syncMsg), later: "08006 E"},
	"block that idles, then Sync":    {status: 'T', block: lostBlock, then: syncMsg, later: "08006 E"},
	"block that idles, then ROLLBACK": {
		status: 'T', block: lostBlock, then: queryMsg("ROLLBACK"), needs: true,
	},
	"failed block that idles": {status: 'E', block: failedBlock, then: queryMsg("ROLLBACK"), needs: true},
	"only the end of what was said before is answered": {
		status: 'T', block: lostBlock, then: join(batch("SELECT"), syncMsg, queryMsg("SELECT")), later: "08006 E", needs: true,
	},
	"error was told, Sync is out": {
		up: join(batch("INSERT"), syncMsg), down: join(msg('1', ""), msg('E', "SERROR\x00VERROR\x00C23505\x00M\x00\x00")), want: "1 23505 I",
	},
	"error was told, Sync is to come": {
		up: batch("INSERT"), down: join(msg('1', ""), msg('E', "SERROR\x00VERROR\x00C23505\x00M\x00\x00")), want: "1 23505", then: syncMsg, later: "I",
	},
	"server says goodbye": {
		up: queryMsg("INSERT"), down: msg('E', "SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00"), want: "08007 I",
	},
	"half of the server's goodbye": {
		up: queryMsg("INSERT"), down: msg('E', "SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00")[:20], want: "08007 I",
	},
	"half of a header":      {up: queryMsg("INSERT"), down: readyI[:3], closed: true},
	"half of a row":         {up: queryMsg("SELECT"), down: msg('D', "abcdef")[:8], closed: true},
	"COPY by Query":         {up: join(queryMsg("COPY"), msg('d', "a\n")), down: msg('G', "\x00\x00\x00"), want: "G 08007 I", then: join(msg('d', "b\n"), msg('c', ""))},
	"COPY by Execute":       {up: join(batch("COPY"), syncMsg, msg('d', "a\n")), down: join(msg('1', ""), msg('2', ""), msg('G', "\x00\x00\x00")), want: "1 2 G 08006", then: join(msg('c', ""), syncMsg), later: "I"},
	"half of a Query alone": {up: queryMsg("INSERT INTO t")[:9], needs: true},
	"half of a Query behind another": {
		up: join(queryMsg("INSERT"), queryMsg("INSERT INTO t")[:9]), want: "08007 I 08006 I", then: queryMsg("INSERT INTO t")[9:],
	},
	"half of a Query in a block": {
		up: queryMsg("INSERT INTO t")[:9], status: 'T', want: "08006 E", then: queryMsg("INSERT INTO t")[9:], block: failedBlock,
	},
	"half of a Bind": {
		up: join(parseMsg("", "INSERT"), bindMsg("")[:6]), want: "08006", then: join(bindMsg("")[6:], executeMsg(), syncMsg), later: "I",
	},
}

// TestLostBackend holds what a client is told, and what becomes of its block,
// against the table of the failover chapter.
func TestLostBackend(t *testing.T) {
	for name, lc := range lossCases {
		t.Run(name, func(t *testing.T) {
			c := newModelClient(t, newStatements())
			b := &modelBackend{}
			c.line.start(&Totals{}, &b.Backend, pooledClient, pooledServer)
			c.tx.x = &b.exchange
			c.tx.tracked = c.line.b.Params.settings()
			c.tx.initial = c.tx.tracked
			if lc.status != 0 {
				c.line.b.Status = lc.status
			}
			if _, _, err := c.tx.clientBytes(lc.up, nil); err != nil {
				t.Fatal(err)
			}
			got, err := c.tx.serverBytes(lc.down, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, rest, ok := c.tx.lose(got)
			if ok == lc.closed {
				t.Fatalf("client may stay: %v", ok)
			}
			if lc.closed {
				return
			}
			if d := cmp.Diff(lc.want, brief(got)); d != "" {
				t.Errorf("at once (-want +got):\n%s", d)
			}
			c.tx.rest()
			if c.tx.block != lc.block && lc.block != noBlock || lc.block == noBlock && c.tx.block != noBlock && lc.then == nil {
				t.Errorf("block %d, want %d", c.tx.block, lc.block)
			}
			var later []byte
			if rest == nil {
				if rest, _, err = c.tx.awaken(lc.then, &later); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(lc.later, brief(later)); d != "" {
				t.Errorf("later (-want +got):\n%s", d)
			}
			if (len(rest) > 0) != lc.needs {
				t.Errorf("left for another backend: %q", rest)
			}
			if c.tx.discarding {
				t.Error("still discarding")
			}
		})
	}
}

// TestStateAfterAFailureWithoutABackend: of what a client says that gets no backend
// in time, the first batch fails.
func TestStateAfterAFailureWithoutABackend(t *testing.T) {
	for name, tc := range map[string]struct {
		said  []byte
		want  string
		block block
	}{
		"statement":            {queryMsg("INSERT"), "53300 I", noBlock},
		"BEGIN":                {queryMsg("BEGIN"), "53300 I", noBlock},
		"BEGIN and what is in": {join(queryMsg("BEGIN"), queryMsg("INSERT")), "53300 E", failedBlock},
		"BEGIN; INSERT":        {queryMsg("BEGIN; INSERT"), "53300 E", failedBlock},
		"extended BEGIN":       {join(batch("BEGIN"), syncMsg), "53300 I", noBlock},
	} {
		t.Run(name, func(t *testing.T) {
			c := newModelClient(t, newStatements())
			c.tx.fail = &failure{pgwire.RefusalPoolFull.With().AppendError(nil)}
			var out []byte
			if _, _, err := c.tx.awaken(tc.said, &out); err != nil {
				t.Fatal(err)
			}
			if got := brief(out); got != tc.want || c.tx.block != tc.block {
				t.Errorf("told %q, block %d; want %q, %d", got, c.tx.block, tc.want, tc.block)
			}
		})
	}
}

// TestLostBackendTakesBackWhatWasNotAnswered: names and parameters of a client
// are what they were before what has failed.
func TestLostBackendTakesBackWhatWasNotAnswered(t *testing.T) {
	c := newModelClient(t, newStatements())
	b := &modelBackend{}
	b.Params.Set("TimeZone", "UTC")
	c.tx.Start(&b.Backend, pgwire.TxIdle)
	c.tx.tracked = b.Params.settings()
	say := func(up, down []byte) {
		t.Helper()
		if _, _, err := c.tx.clientBytes(up, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.tx.serverBytes(down, nil); err != nil {
			t.Fatal(err)
		}
	}
	say(join(parseMsg("kept", "SELECT 1"), syncMsg), join(msg('1', ""), msg('t', "\x00\x00"), msg('n', ""), readyI))
	say(queryMsg("BEGIN"), join(msg('C', "BEGIN\x00"), readyT))
	say(queryMsg("SET TimeZone TO x"), join(msg('C', "SET\x00"), msg('S', "TimeZone\x00x\x00"), readyT))
	say(join(closeMsg("kept"), parseMsg("lost", "SELECT 2"), syncMsg), nil)
	out, _, ok := c.tx.lose(nil)
	if !ok {
		t.Fatal("client can't stay")
	}
	if got, want := brief(out), "08006 E S"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if !strings.HasSuffix(string(out), "TimeZone\x00UTC\x00") {
		t.Errorf("the old zone isn't told: %q", out)
	}
	if c.tx.names["kept"] == nil || c.tx.names["lost"] != nil {
		t.Errorf("statements: %v", c.tx.names)
	}
	if got := len(c.tx.shared.statements.byKey); got != 1 {
		t.Errorf("%d statements are held, want 1", got)
	}
}
