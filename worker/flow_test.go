package worker

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// quiet is how long nothing must happen until a test believes that nothing more will. If it
// is too short on a slow machine, the test passes without proving anything.
const quiet = 500 * time.Millisecond

// A worker stops reading from a client that sends without end while its server doesn't
// answer. Once the server continues, everything is answered.
func TestPooledClientIsNotListenedToWhileItIsOwedMuch(t *testing.T) {
	const total = 100_000
	r := newRig(t, pooling())
	tc, srv := r.enter(1)
	go func() { _, _ = tc.Write(bytes.Repeat(sync_, total)) }()
	// The bytes of one receive and a part of a message may come on top.
	const most = relay.MaxOwed + 64<<10/5 + 1
	buf := make([]byte, most*5+1)
	got, end := 0, time.Now().Add(generous)
	for got <= most*5 {
		if err := srv.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			t.Fatal(err)
		}
		n, err := srv.r.Read(buf[got:])
		if got += n; errors.Is(err, os.ErrDeadlineExceeded) {
			if got >= relay.MaxOwed*5 || time.Now().After(end) {
				break
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if got > most*5 || got < relay.MaxOwed*5 {
		t.Errorf("%d messages reached a server that answers none", got/5)
	}
	if err := srv.SetDeadline(time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for answered := 0; ; {
			n := got/5 - answered
			answered += n
			if _, err := srv.Write(bytes.Repeat(ready("I"), n)); err != nil || answered == total {
				return
			}
			n, err := srv.r.Read(buf)
			if err != nil {
				return
			}
			got += n
		}
	}()
	for i := range total {
		if _, err := tc.Receive(); err != nil {
			t.Fatalf("after %d answers: %v", i, err)
		}
	}
	r.do(func() {
		if tc.s.backend != nil || r.w.sessions != 1 {
			t.Error("the client has its backend still")
		}
	})
}

// A worker stops reading from a client that doesn't read the answers, whether they come from
// the server or, as for a Close, from the worker itself.
func TestPooledClientReadsItsAnswersOrIsNotListenedTo(t *testing.T) {
	r := newRig(t, pooling())
	tc, srv := r.enter(1)
	again := join(closeMsg("s"), parseMsg("s", "SELECT 1"))
	go func() { _, _ = tc.Write(join(parseMsg("s", "SELECT 1"), sync_)) }()
	go func() {
		answers := map[byte][]byte{'P': msg('1', ""), 'D': join(msg('t', "\x00\x00"), msg('n', "")), 'C': msg('3', ""), 'S': ready("I")}
		for {
			typ, _, err := pgwire.ReadMessage(srv.r, 1<<20)
			if err != nil {
				return
			}
			if _, err := srv.Write(answers[typ]); err != nil {
				return
			}
		}
	}()
	tc.until(t, &pgproto3.ReadyForQuery{})
	const total = 40_000
	flood := bytes.Repeat(again, total)
	if err := tc.SetWriteDeadline(time.Now().Add(4 * quiet)); err != nil {
		t.Fatal(err)
	}
	n, err := tc.Write(flood)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were taken from a client that reads nothing, %v", n, err)
	}
	r.do(func() {
		if q := tc.s.client.Queued(); q > 512<<10 {
			t.Errorf("%d bytes of answers wait", q)
		}
	})
	// When the client reads, the worker reads from it again.
	if err := tc.SetDeadline(time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = tc.Write(append(flood[n:], sync_...)) }()
	answers := io.LimitReader(tc.Conn, 2*5*total)
	if got, err := io.ReadAll(answers); err != nil || len(got) != 2*5*total || got[0] != '3' || got[len(got)-5] != '1' {
		t.Fatalf("%d bytes of answers, %v", len(got), err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
}
