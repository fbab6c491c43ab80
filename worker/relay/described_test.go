package relay

import (
	"bytes"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// A client whose bytes are held isn't read. What comes all the same waits with them, its
// Terminate included, and goes to the server in order.
func TestHeldBytesGoOnInOrder(t *testing.T) {
	s := NewShared()
	p := s.Pooled(1)
	description := join(msg('1', ""), msg('t', "\x00\x00"), msg('n', ""))
	first, second := &Backend{}, &Backend{}
	pass := func(got Passed, err error) Passed {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	p.Start(first, pgwire.TxIdle)
	pass(p.FromClient(join(parseMsg("s", "SELECT 1"), sync_)))
	pass(p.FromServer(join(description, ready("I"))))
	p.Part()

	p.Start(second, pgwire.TxIdle)
	rest := join(bindMsg("s"), exec, sync_, bindMsg("s"), exec, sync_, msg('X', ""))
	sent := pass(p.FromClient(rest[:len(bindMsg("s"))+3]))
	if !sent.Flooded || sent.Stand != Busy || bytes.Contains(sent.ToServer, []byte("B\x00")) || !bytes.HasSuffix(sent.ToServer, flush) {
		t.Fatalf("%+v", sent)
	}
	if more := pass(p.FromClient(rest[len(bindMsg("s"))+3:])); !more.Flooded || len(more.ToServer) > 0 || more.Leaving {
		t.Fatalf("%+v", more)
	}
	for _, half := range [][]byte{description[:7], description[7:15]} {
		if got := pass(p.FromServer(half)); len(got.ToServer)+len(got.ToClient) > 0 || !got.Flooded || p.MidMessage() {
			t.Fatalf("%+v", got)
		}
	}
	got := pass(p.FromServer(description[15:]))
	bind := bindMsg(second.prepared.recent.Front().Value.(*onBackend).name)
	if want := join(bind, exec, sync_, bind, exec, sync_); !bytes.Equal(got.ToServer, want) || !got.Leaving || got.Flooded || len(got.ToClient) > 0 {
		t.Fatalf("%+v, want %q", got, want)
	}
}

// A server that describes without end costs no memory: the statement isn't shared.
func TestLongDescriptionIsNotKept(t *testing.T) {
	s := NewShared()
	p := s.Pooled(1)
	var b Backend
	p.Start(&b, pgwire.TxIdle)
	if _, err := p.FromClient(join(parseMsg("s", "SELECT 1"), sync_)); err != nil {
		t.Fatal(err)
	}
	got, err := p.FromServer(join(msg('1', ""), msg('t', "\x00\x00"), msg('T', string(make([]byte, 2*maxDescription))), ready("I")))
	if err != nil || got.Stand != Parting || brief(got.ToClient) != "1 I" {
		t.Fatalf("%q, %v", brief(got.ToClient), err)
	}
	if cap(p.line.b.exchange.said) > 4096 || p.names["s"].described.known() || len(s.statements.byKey) > 0 {
		t.Errorf("%d bytes are kept, %+v", cap(b.exchange.said), p.names["s"])
	}
	p.Part()
	if _, err := p.FromClient(join(bindMsg("s"), exec, sync_)); err != nil {
		t.Fatal(err)
	}
}
