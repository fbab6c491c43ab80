package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

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

// When one connection to a server is lost, the others may be about to be. A client must not lose a second statement to one of
// them, whatever validation says.
func TestAnIdleConnectionIsTestedIfAnotherWasLostSince(t *testing.T) {
	r := newRig(t, sessions())
	_, first := r.enter(1)
	var ends [2]*serverEnd
	var clients [2]*testClient
	for i := range ends {
		clients[i], ends[i] = r.enter(uint64(2 + i))
	}
	for i, tc := range clients { // the last one to leave is the first to be used again
		tc.Close()
		expect[*ipc.ClientsGone](r)
		_ = ends[i].SetReadDeadline(time.Now().Add(generous))
	}
	first.Close()
	expect[*ipc.Hint](r)
	expect[*ipc.LeaseReturn](r)
	second, third := ends[0], ends[1]
	tc := r.connect(4)
	hears(t, third, 'Q', validationQuery+"\x00")
	third.Close() // the client doesn't hear of it
	hears(t, second, 'Q', validationQuery+"\x00")
	if _, err := second.Write(pgwire.AppendReadyForQuery(nil, pgwire.TxIdle)); err != nil {
		t.Fatal(err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	tc.Close()
	expect[*ipc.ClientsGone](r)
	r.connect(5).until(t, &pgproto3.ReadyForQuery{}) // the connection was used since, so there is no other test
}
