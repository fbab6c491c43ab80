package relay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// modelBackend is a backend with the server behind it.
type modelBackend struct {
	Backend
	server *modelServer
	owner  *modelClient
	seen   int // bytes of the server's answers that were taken
}

// modelClient is a client of the transaction pipeline, with what a session does
// at the boundaries.
type modelClient struct {
	t       testing.TB
	line    line
	tx      Pooled
	backend *modelBackend
	got     []byte
	gone    bool
}

func newModelClient(t testing.TB, all *statements) *modelClient {
	c := &modelClient{t: t}
	c.tx = Pooled{line: &c.line, shared: &Shared{statements: all}}
	c.line.start(&Totals{}, &Backend{}, pooledClient, pooledServer)
	return c
}

// send gives the client's bytes to a backend, a free one of which pick chooses.
func (c *modelClient) send(data []byte, pick func() *modelBackend) {
	if c.backend == nil {
		rest, leaving, err := c.tx.awaken(data, &c.got)
		if err != nil {
			c.t.Fatalf("client without backend: %v", err)
		}
		c.gone = c.gone || leaving
		if len(rest) == 0 {
			return
		}
		b := pick()
		c.backend, b.owner = b, c
		c.tx.x = &b.exchange
		c.line.start(&Totals{}, &b.Backend, pooledClient, pooledServer)
		data = bytes.Clone(rest)
	}
	if c.tx.x.held != nil {
		c.tx.x.held = append(c.tx.x.held, data...)
		return
	}
	out, _, err := c.tx.clientBytes(data, nil)
	if err != nil {
		c.t.Fatalf("client: %v", err)
	}
	c.backend.server.write(out)
	if e := c.tx.x.first(); e != nil && e.fate == invent {
		c.got = c.tx.inventAnswers(c.got)
	}
	c.boundary()
}

// receive takes at most n bytes of what the server has said.
func (c *modelClient) receive(n int) {
	b := c.backend
	if b == nil {
		return
	}
	data := b.server.out[b.seen:min(len(b.server.out), b.seen+n)]
	b.seen += len(data)
	out, err := c.tx.serverBytes(bytes.Clone(data), nil)
	if err != nil {
		c.t.Fatalf("server: %v", err)
	}
	c.got = append(c.got, out...)
	out, _, err = c.tx.resume(nil)
	if err != nil {
		c.t.Fatalf("client, resumed: %v", err)
	}
	b.server.write(out)
	c.boundary()
}

func (c *modelClient) idle() bool { return c.tx.x.need == 0 && c.tx.x.idle() && c.line.idle() }

func (c *modelClient) boundary() {
	if c.line.b.Status != pgwire.TxIdle || !c.idle() {
		return
	}
	b := c.backend
	if b.seen != len(b.server.out) || len(b.server.in) > 0 {
		c.t.Fatalf("given back with %q unsaid and %q unread", b.server.out[b.seen:], b.server.in)
	}
	b.exchange.rest()
	c.tx.rest()
	b.owner, c.backend = nil, nil
}

// answers are what a client was told, without what may differ: texts of errors.
func answers(b []byte) string {
	var sb strings.Builder
	for len(b) > 0 {
		typ, n := b[0], 1+int(b[1])<<24+int(b[2])<<16+int(b[3])<<8+int(b[4])
		body := string(b[5:n])
		if typ == 'E' {
			body = pgwire.ParseError(b[5:n]).Code
		}
		fmt.Fprintf(&sb, "%c %q\n", typ, body)
		b = b[n:]
	}
	return sb.String()
}

func parseMsg(name, text string) []byte { return msg('P', name+"\x00"+text+"\x00\x00\x00") }
func bindMsg(name string) []byte        { return msg('B', "\x00"+name+"\x00\x00\x00\x00\x00\x00\x00") }
func describeMsg(name string) []byte    { return msg('D', "S"+name+"\x00") }
func closeMsg(name string) []byte       { return msg('C', "S"+name+"\x00") }
func queryMsg(text string) []byte       { return msg('Q', text+"\x00") }

var flush = msg('H', "")

// talk is what a client says from one moment when it waits for all answers to
// the next.
type talk [][]byte

func join(ms ...[]byte) []byte { return bytes.Join(ms, nil) }

// randomTalk makes a batch as drivers make them, and as none does.
func randomTalk(r *rand.Rand, client int) talk {
	name := fmt.Sprintf("s%d", r.IntN(4))
	text := fmt.Sprintf("show %d of %d", r.IntN(6), client%2*r.IntN(2))
	named := fmt.Sprintf("%s %d of %d", []string{"show", "look", "put"}[r.IntN(3)], r.IntN(3), client%2*r.IntN(2))
	run := join(bindMsg(name), exec)
	switch r.IntN(21) {
	case 0:
		return talk{queryMsg([]string{"begin", "commit", "rollback", "fail", text, ""}[r.IntN(6)])}
	case 1:
		return talk{parseMsg(name, named), describeMsg(name), sync_}
	case 2:
		return talk{run, sync_}
	case 3:
		return talk{closeMsg(name), parseMsg(name, named), run, sync_}
	case 4:
		return talk{parseMsg("", text), describeMsg(""), sync_}
	case 5:
		return talk{bindMsg(""), exec, sync_}
	case 6:
		return talk{parseMsg("", []string{"begin", "commit", "bad", "fail", "rollback"}[r.IntN(5)]), bindMsg(""), exec, sync_}
	case 7: // a pipeline with several ends
		return talk{run, sync_, closeMsg(name), sync_, parseMsg("", text), bindMsg(""), exec, sync_}
	case 8: // an error in the middle
		return talk{parseMsg("", "fail"), bindMsg(""), exec, closeMsg(name), run, sync_, nil, bindMsg(name), exec, sync_}
	case 9: // Flush without Sync
		return talk{run, flush, nil, bindMsg(name), exec, flush, nil, sync_}
	case 10: // COPY as libpq does it
		end := [][]byte{msg('c', ""), msg('f', "no\x00")}[r.IntN(2)]
		data := msg('d', []string{"good", "bad"}[r.IntN(2)])
		return talk{parseMsg("", "copy"), bindMsg(""), exec, sync_, data, data, end, sync_, nil, parseMsg("", text), sync_}
	case 11: // COPY by a query, with what comes late
		data := msg('d', []string{"good", "bad"}[r.IntN(2)])
		return talk{queryMsg("copy"), data, data, msg('c', "")}
	case 12:
		return talk{msg('F', "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
	case 13:
		return talk{queryMsg([]string{"deallocate " + name, "deallocate all"}[r.IntN(2)])}
	case 14:
		return talk{parseMsg("", "deallocate "+name), bindMsg(""), exec, sync_, nil, parseMsg("", text), sync_}
	case 15: // a Parse of ours that is skipped, and needed at once
		return talk{parseMsg("", "fail"), bindMsg(""), exec, run, sync_, run, sync_}
	case 16: // SQL that names statements
		return talk{queryMsg("execute " + name)}
	case 17:
		other := fmt.Sprintf("s%d", r.IntN(4))
		return talk{queryMsg([]string{
			"deallocate " + name + "; execute " + other, "execute " + name + "; " + text + "; execute " + other,
			"deallocate " + name + "; fail; deallocate " + other, "deallocate nobody; deallocate " + name, "begin; execute " + name,
			"deallocate " + name + "; deallocate " + other + "; deallocate all",
		}[r.IntN(6)])}
	case 18:
		return talk{parseMsg("", "execute "+name), bindMsg(""), exec, sync_, nil, bindMsg(""), exec, closeMsg(name), sync_, nil, bindMsg(""), exec, sync_}
	case 19:
		return talk{parseMsg("e", []string{"execute ", "deallocate "}[r.IntN(2)]+name), sync_, nil, bindMsg("e"), exec, bindMsg("e"), exec, sync_, nil, closeMsg("e"), sync_}
	default: // the wrong way, and pieces of everything
		return talk{parseMsg(name, "bad"), sync_, run, sync_, closeMsg("nobody"), sync_}
	}
}

// Clients that share two backends get, message for message, what each would get
// from a server of its own, whatever the pieces and however they interleave.
func TestPooledClientsSeeWhatTheyWouldSeeAlone(t *testing.T) {
	for seed := range uint64(300) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { shareBackends(t, rand.New(rand.NewPCG(seed, 1))) }) {
			return
		}
	}
}

func shareBackends(t testing.TB, r *rand.Rand) {
	all := newStatements()
	backends := []*modelBackend{{server: newModelServer()}, {server: newModelServer()}, {server: newModelServer()}}
	clients := []*modelClient{newModelClient(t, all), newModelClient(t, all), newModelClient(t, all)}
	alone := make([]*modelServer, len(clients))
	said := make([][]string, len(clients))
	schema := new(byte)
	for i := range alone {
		alone[i] = newModelServer()
		alone[i].schema = schema
	}
	for _, b := range backends {
		b.server.schema = schema
	}
	pick := func() *modelBackend {
		for {
			if b := backends[r.IntN(len(backends))]; b.owner == nil {
				return b
			}
		}
	}
	pieces := 1 + r.IntN(40)
	for range 40 {
		if r.IntN(8) == 0 {
			*schema = byte(r.IntN(3)) // somebody alters a table
		}
		i := r.IntN(len(clients))
		c := clients[i]
		var data []byte
		for _, m := range randomTalk(r, i) {
			data = append(data, m...)
			if m == nil { // the client waits for what it has flushed
				c.sendPieces(r, data, pieces, pick)
				alone[i].write(data)
				said[i] = append(said[i], string(data))
				c.drain(pieces)
				data = nil
			}
		}
		c.sendPieces(r, data, pieces, pick)
		alone[i].write(data)
		said[i] = append(said[i], string(data))
		c.drain(pieces)
		if diff := cmp.Diff(answers(alone[i].out), answers(c.got)); diff != "" {
			t.Fatalf("client %d, pieces of %d, (-alone +pooled):\n%s\nsaid %q", i, pieces, diff, said[i])
		}
		if c.line.doubt {
			t.Fatalf("client %d is in doubt after %q", i, said[i])
		}
		if alone[i].status == 'I' && c.backend != nil && !alone[i].skipping && !alone[i].copying && !alone[i].extended {
			t.Fatalf("client %d keeps its backend: %+v, said %q", i, c.tx.x, said[i])
		}
	}
	for _, c := range clients {
		c.tx.forget()
	}
	if len(all.byKey) > 0 {
		t.Fatalf("%d statements are held by nobody", len(all.byKey))
	}
}

// sendPieces sends data in pieces; the answers come in between, or don't yet.
func (c *modelClient) sendPieces(r *rand.Rand, data []byte, size int, pick func() *modelBackend) {
	for len(data) > 0 {
		n := min(len(data), 1+r.IntN(size))
		c.send(data[:n], pick)
		data = data[n:]
		if r.IntN(2) == 0 {
			c.receive(1 + r.IntN(size))
		}
	}
}

// drain takes all that the server has said.
func (c *modelClient) drain(size int) {
	for c.backend != nil && c.backend.seen < len(c.backend.server.out) {
		c.receive(size)
	}
}

// FuzzPooled plays what nobody would say: the pipeline refuses it or passes it
// on, and never loses its place.
func FuzzPooled(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		f.Add(join(randomTalk(r, 0)...), join(msg('1', ""), msg('2', ""), done, ready("I")), uint8(r.IntN(20)))
	}
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
		all := newStatements()
		b := &modelBackend{}
		var r line
		p := Pooled{line: &r, shared: &Shared{statements: all}, x: &b.exchange}
		r.start(&Totals{}, &b.Backend, pooledClient, pooledServer)
		step := int(size) + 1
		for len(up) > 0 || len(down) > 0 {
			n, m := min(step, len(up)), min(step, len(down))
			if b.exchange.held != nil {
				n = 0
			} else if _, leaving, err := p.clientBytes(up[:n], nil); err != nil || leaving {
				break
			}
			if n+m == 0 {
				break // it waits for a server that says no more
			}
			if _, err := p.serverBytes(down[:m], nil); err != nil {
				break
			}
			if _, leaving, err := p.resume(nil); err != nil || leaving {
				break
			}
			up, down = up[n:], down[m:]
			if e := b.exchange.first(); e != nil && e.kind == copyEnd {
				t.Fatal("the end of a COPY is owed an answer")
			}
			if b.exchange.idle() && b.exchange.executes() {
				t.Fatal("idle with an answer owed")
			}
		}
		p.forget()
		if len(all.byKey) > 0 {
			t.Fatalf("%d statements are held by nobody", len(all.byKey))
		}
	})
}

func TestPooledAllocatesNothingForAKnownStatement(t *testing.T) {
	b := &modelBackend{server: newModelServer()}
	c := newModelClient(t, newStatements())
	pick := func() *modelBackend { return b }
	c.send(join(parseMsg("s", "show 1"), sync_), pick)
	c.drain(1 << 20)
	c.line.start(&Totals{}, &b.Backend, pooledClient, pooledServer)
	c.tx.x = &b.exchange
	up, down := join(bindMsg("s"), exec, sync_), join(msg('2', ""), msg('D', "1"), done, ready("I"))
	out := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(1000, func() {
		if _, _, err := c.tx.clientBytes(up, out); err != nil {
			t.Fatal(err)
		}
		if _, err := c.tx.serverBytes(down, out); err != nil {
			t.Fatal(err)
		}
		if !c.idle() {
			t.Fatal("not idle")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for one execution", n)
	}
}

func TestPooledAllocatesNothingForASimpleQuery(t *testing.T) {
	b := &modelBackend{server: newModelServer()}
	c := newModelClient(t, newStatements())
	c.line.start(&Totals{}, &b.Backend, pooledClient, pooledServer)
	c.tx.x = &b.exchange
	up, down := queryMsg("UPDATE t SET a = 1"), join(msg('C', "UPDATE 1\x00"), ready("I"))
	out := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(1000, func() {
		_, _, _ = c.tx.clientBytes(up, out)
		_, _ = c.tx.serverBytes(down, out)
		if !c.idle() {
			t.Fatal("not idle")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for one query", n)
	}
}

// A pipeline that never comes to rest keeps only what is owed.
func TestExchangeStaysSmallInAnEndlessPipeline(t *testing.T) {
	var x exchange
	x.push(owed{kind: 'S'})
	for range 100000 {
		x.push(owed{kind: 'S'})
		x.pop()
	}
	if x.len() != 1 || cap(x.q) > 64 {
		t.Errorf("%d owed, room for %d", x.len(), cap(x.q))
	}
}
