package relay

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// msg builds a message of the given type.
func msg(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

func ready(status string) []byte { return msg('Z', status) }

func errorMsg(severity, code string) []byte {
	return pgwire.AppendMessage(nil, 'E', []byte("S"+severity+"\x00V"+severity+"\x00C"+code+"\x00Mtest\x00\x00"))
}

// step is what one side says next.
type step struct {
	server bool
	data   []byte
}

func c(ms ...[]byte) step { return step{data: bytes.Join(ms, nil)} }
func s(ms ...[]byte) step { return step{server: true, data: bytes.Join(ms, nil)} }

// verdict is what the session asks a relay at a boundary.
type verdict struct {
	idle, uncertain, doubt, fatal, leaving bool
	status                                 byte
	code                                   string
	forwarded                              string
}

// play runs a conversation with each step cut into pieces of the given size.
func play(t *testing.T, steps []step, size int) verdict {
	t.Helper()
	var p Backend
	var r line
	r.start(&Totals{}, &p, clientInterests, serverInterests)
	var v verdict
	for _, st := range steps {
		for b := st.data; len(b) > 0; {
			piece := append([]byte(nil), b[:min(size, len(b))]...)
			b = b[len(piece):]
			if st.server {
				if err := r.serverBytes(piece); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if v.leaving {
				continue
			}
			n, leaving, err := r.clientBytes(piece)
			if err != nil {
				t.Fatal(err)
			}
			v.forwarded += string(piece[:n])
			v.leaving = leaving
		}
	}
	v.idle, v.uncertain, v.doubt, v.fatal = r.idle(), r.uncertain(), r.doubt, r.fatal
	v.status, v.code = r.b.Status, r.b.Code
	return v
}

var (
	query = msg('Q', "SELECT 1\x00")
	parse = msg('P', "\x00SELECT 1\x00\x00\x00")
	bind  = msg('B', "\x00\x00\x00\x00\x00\x00\x00\x00")
	exec  = msg('E', "\x00\x00\x00\x00\x00")
	sync_ = msg('S', "")
	bye   = msg('X', "")
	done  = msg('C', "SELECT 1\x00")
)

var conversations = []struct {
	name  string
	steps []step
	want  verdict
}{
	{"nothing said", nil, verdict{idle: true, status: 'I'}},
	{"query unanswered", []step{c(query)}, verdict{uncertain: true, status: 'I'}},
	{"query answered", []step{c(query), s(done, ready("I"))}, verdict{idle: true, status: 'I'}},
	{"in a transaction", []step{c(query), s(done, ready("T"))}, verdict{idle: true, status: 'T'}},
	{"failed transaction", []step{c(query), s(errorMsg("ERROR", "42601"), ready("E"))}, verdict{idle: true, status: 'E'}},
	{"half a query", []step{c(query[:7])}, verdict{uncertain: true, status: 'I'}},
	{"result without its end", []step{c(query), s(done)}, verdict{uncertain: true, status: 'I'}},
	{"half a ReadyForQuery", []step{c(query), s(done, ready("I")[:5])}, verdict{uncertain: true, status: 'I'}},
	{"two pipelined, one answered", []step{c(query, query), s(done, ready("I"))}, verdict{uncertain: true, status: 'I'}},
	{"batch without Sync", []step{c(parse, bind)}, verdict{status: 'I'}},
	{"batch executed, not synced", []step{c(parse, bind, exec)}, verdict{uncertain: true, status: 'I'}},
	{"batch synced", []step{c(parse, bind, exec, sync_)}, verdict{uncertain: true, status: 'I'}},
	{"batch answered", []step{c(parse, bind, exec, sync_), s(msg('1', ""), msg('2', ""), done, ready("I"))}, verdict{idle: true, status: 'I'}},
	{"error in a batch", []step{c(parse, bind, exec, sync_), s(errorMsg("ERROR", "42P01"), ready("I"))}, verdict{idle: true, status: 'I'}},
	{"function call", []step{c(msg('F', "\x00\x00\x00\x00")), s(msg('V', "\xff\xff\xff\xff"), ready("I"))}, verdict{idle: true, status: 'I'}},
	{
		"COPY in by libpq: the Sync sent with Execute is ignored",
		[]step{c(parse, bind, exec, sync_), s(msg('1', ""), msg('2', ""), msg('G', "\x00\x00\x00")), c(msg('d', "1\n"), msg('c', ""), sync_), s(done, ready("I"))},
		verdict{idle: true, status: 'I'},
	},
	{
		"COPY in, Sync at the end only",
		[]step{c(parse, bind, exec), s(msg('G', "\x00\x00\x00")), c(msg('d', "1\n"), msg('c', ""), sync_), s(done, ready("I"))},
		verdict{idle: true, status: 'I'},
	},
	{"COPY in by a query", []step{c(query), s(msg('G', "\x00\x00\x00")), c(msg('d', "1\n"), msg('c', "")), s(done, ready("I"))}, verdict{idle: true, status: 'I'}},
	{"in the middle of a COPY in", []step{c(query), s(msg('G', "\x00\x00\x00")), c(msg('d', "1\n"))}, verdict{uncertain: true, status: 'I'}},
	{
		"pipelined behind a COPY in: never reused",
		[]step{c(parse, bind, exec, sync_, sync_), s(msg('G', "\x00\x00\x00")), c(msg('c', ""), sync_), s(done, ready("I"))},
		verdict{doubt: true, uncertain: true, status: 'I'},
	},
	{"COPY out", []step{c(query), s(msg('H', "\x00\x00\x00"), msg('d', "1\n"), msg('c', ""), done, ready("I"))}, verdict{idle: true, status: 'I'}},
	{"an answer to nothing", []step{s(ready("I"))}, verdict{doubt: true, uncertain: true, status: 'I'}},
	{"notices and parameters at any time", []step{s(msg('N', "SNOTICE\x00\x00"), msg('S', "TimeZone\x00UTC\x00"), msg('A', "\x00\x00\x00\x01c\x00\x00"))}, verdict{idle: true, status: 'I'}},
	{"shutdown announced", []step{c(query), s(errorMsg("FATAL", "57P01"))}, verdict{uncertain: true, fatal: true, status: 'I', code: "57P01"}},
	{"write on a standby", []step{c(query), s(errorMsg("ERROR", "25006"), ready("I"))}, verdict{idle: true, status: 'I', code: "25006"}},
	{"goodbye", []step{c(query), s(done, ready("I")), c(bye)}, verdict{idle: true, leaving: true, status: 'I'}},
	{"goodbye at once", []step{c(query, bye), s(done, ready("I"))}, verdict{idle: true, leaving: true, status: 'I'}},
	{"goodbye in a transaction", []step{c(query), s(done, ready("T")), c(bye)}, verdict{idle: true, leaving: true, status: 'T'}},
}

// Whatever the pieces, the answers are the same, and everything but the
// Terminate is forwarded.
func TestRelayKnowsWhereAConversationStands(t *testing.T) {
	for _, conv := range conversations {
		var said strings.Builder
		for _, st := range conv.steps {
			if !st.server {
				said.Write(st.data)
			}
		}
		conv.want.forwarded = strings.TrimSuffix(said.String(), string(bye))
		for size := range 40 {
			if got := play(t, conv.steps, size+1); got != conv.want {
				t.Errorf("%s, pieces of %d:\n got %+v\nwant %+v", conv.name, size+1, got, conv.want)
				break
			}
		}
		if got := play(t, conv.steps, 1<<20); got != conv.want {
			t.Errorf("%s, whole:\n got %+v\nwant %+v", conv.name, got, conv.want)
		}
	}
}

func TestRelayRefusesStreamsThatAreOutOfStep(t *testing.T) {
	var p Backend
	for name, b := range map[string][]byte{
		"unknown type": msg('!', ""), "length 3": {'Q', 0, 0, 0, 3}, "server's type": msg('D', "")[:0:0],
	} {
		if len(b) == 0 {
			continue
		}
		var r line
		r.start(&Totals{}, &p, clientInterests, serverInterests)
		if n, _, err := r.clientBytes(b); err == nil || n != 0 || r.idle() {
			t.Errorf("%s: forwarded %d, error %v, idle %v", name, n, err, r.idle())
		}
	}
}

func TestRelayAllocatesNothingPerQuery(t *testing.T) {
	var p Backend
	var r line
	r.start(&Totals{}, &p, clientInterests, serverInterests)
	up := bytes.Join([][]byte{bind, exec, sync_}, nil)
	down := bytes.Join([][]byte{msg('2', ""), msg('D', strings.Repeat("x", 100)), done, ready("I")}, nil)
	n := testing.AllocsPerRun(1000, func() {
		if _, _, err := r.clientBytes(up); err != nil {
			t.Fatal(err)
		}
		if err := r.serverBytes(down); err != nil {
			t.Fatal(err)
		}
		if !r.idle() {
			t.Fatal("not idle")
		}
		r.trim()
	})
	if n != 0 {
		t.Errorf("%v allocations for one query", n)
	}
}

func TestParametersThatDifferAreSet(t *testing.T) {
	base := Params{}
	base.Set("application_name", "")
	base.Set("client_encoding", "UTF8")
	base.Set("TimeZone", "Etc/UTC")
	for _, tc := range []struct {
		name, want string
		follow     map[string]string
		now        map[string]string
	}{
		{"nothing asked, nothing changed", "", nil, nil},
		{"asked for what is", "", map[string]string{"client_encoding": "UTF8"}, nil},
		{"asked for another", "SET application_name TO E'psql';", map[string]string{"application_name": "psql"}, nil},
		{"left behind by another", "SET TimeZone TO E'Etc/UTC';", nil, map[string]string{"TimeZone": "Europe/Rome"}},
		{"name in other letters", "SET TimeZone TO E'UTC';", map[string]string{"timezone": "UTC"}, nil},
		{"quotes", `SET application_name TO E'a''b\\c';`, map[string]string{"application_name": `a'b\c`}, nil},
		{"no bytes that an encoding could reinterpret", "SET application_name TO E'??x';", map[string]string{"application_name": "\xe4\x27"[:1] + "\x01x"}, nil},
	} {
		follow, now := Params{}, base.Clone()
		for k, v := range tc.follow {
			follow.Set(k, v)
		}
		for k, v := range tc.now {
			now.Set(k, v)
		}
		if got := adapt(&follow, &base, &now); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestWhatDoesNotFollowTheClientMakesThePoolKey(t *testing.T) {
	in := []pgwire.Param{
		{Name: "user", Value: "u"},
		{Name: "Search_Path", Value: "a"},
		{Name: "application_name", Value: "x"},
		{Name: "datestyle", Value: "German"},
		{Name: "options", Value: "-c geqo=off"},
	}
	for pipeline, want := range map[string]struct {
		key    string
		follow int
	}{
		"session":     {"datestyle=German\x00options=-c geqo=off\x00search_path=a\x00", 1},
		"performance": {"datestyle=German\x00options=-c geqo=off\x00search_path=a\x00", 1},
		"transaction": {"options=-c geqo=off\x00search_path=a\x00", 2},
	} {
		follow, key, rest := SplitStartup(in, pipeline)
		if v, ok := follow.Get("APPLICATION_NAME"); !ok || v != "x" || len(follow.list) != want.follow {
			t.Errorf("%s: follow %+v", pipeline, follow)
		}
		if key != want.key {
			t.Errorf("%s: key %q", pipeline, key)
		}
		if len(rest) != len(in)-1-want.follow {
			t.Errorf("%s: rest %+v", pipeline, rest)
		}
	}
}

func FuzzRelay(f *testing.F) {
	for _, conv := range conversations {
		var up, down []byte
		for _, st := range conv.steps {
			if st.server {
				down = append(down, st.data...)
			} else {
				up = append(up, st.data...)
			}
		}
		f.Add(up, down, uint8(3))
	}
	f.Fuzz(func(t *testing.T, up, down []byte, size uint8) {
		var p Backend
		var r line
		r.start(&Totals{}, &p, clientInterests, serverInterests)
		step := int(size) + 1
		for _, side := range []func([]byte) error{
			func(b []byte) error {
				n, _, err := r.clientBytes(b)
				if n < 0 || n > len(b) {
					t.Fatalf("forward %d of %d", n, len(b))
				}
				return err
			}, r.serverBytes,
		} {
			b := up
			up = down
			for len(b) > 0 {
				n := min(step, len(b))
				if side(b[:n]) != nil {
					break
				}
				b = b[n:]
			}
		}
		if r.idle() && r.uncertain() {
			t.Fatal("idle and uncertain at once")
		}
	})
}

func TestEndsStaySmallInAnEndlessPipeline(t *testing.T) {
	var e ends
	e.push(endSync)
	for range 100_000 {
		e.push(endQuery)
		e.pop()
	}
	if e.len() != 1 || cap(e.q) > 64 {
		t.Errorf("%d owed, room for %d", e.len(), cap(e.q))
	}
	if n := testing.AllocsPerRun(1000, func() { e.push(endSync); e.pop() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
