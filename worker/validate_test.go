package worker

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// The idle connection that a test finds broken is counted, and its neighbours aren't: nobody
// has tested them.
func TestIdleConnectionsThatAreBrokenAreCounted(t *testing.T) {
	r := newRig(t, sessions())
	_, first := r.enter(1)
	second := r.free(2)
	_ = first.SetReadDeadline(time.Now().Add(generous))
	_ = second.SetReadDeadline(time.Now().Add(generous))
	invalid := func() (n uint64) {
		r.do(func() { n = r.w.counters()["connection_invalid"] })
		return n
	}
	r.do(func() {
		r.w.timers.round.left = r.w.shelf.IdleSince(r.w.now())
		r.w.testNext()
	})
	hears(t, second, 'Q', validationQuery+"\x00")
	answer := pgwire.RefusalTransactionLost.With().Append(nil)
	if _, err := second.Write(pgwire.AppendReadyForQuery(answer, pgwire.TxIdle)); err != nil {
		t.Fatal(err)
	}
	hears(t, second, 'X', "")
	second.Close()
	expect[*ipc.LeaseReturn](r)
	if n := invalid(); n != 1 {
		t.Errorf("%d are counted", n)
	}
	third := r.free(3)
	_ = third.SetReadDeadline(time.Now().Add(generous))
	r.do(func() { r.w.closeIdleOf(0) })
	hears(t, third, 'X', "")
	third.Close()
	expect[*ipc.LeaseReturn](r)
	if n := invalid(); n != 1 {
		t.Errorf("%d are counted after one was closed untested", n)
	}
}

// hears reads up to a message.
func hears(t *testing.T, srv *serverEnd, typ byte, body string) {
	t.Helper()
	for {
		got, text, err := pgwire.ReadMessage(srv.r, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got == typ && string(text) == body {
			return
		}
	}
}
