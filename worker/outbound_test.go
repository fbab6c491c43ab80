package worker

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Whatever ends a connection to a server, even the death of this process, the bytes in the
// kernel's queue must not be delivered afterwards.
func TestNothingQueuedReachesAServerAfterAPlainClose(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000})
	tc, srv := r.enter(1)
	chunk := pgwire.AppendQuery(nil, string(bytes.Repeat([]byte{'x'}, 60_000)))
	sent := 0
	for full := false; !full; {
		_ = tc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := tc.Write(chunk)
		sent += n
		full = err != nil
	}
	r.do(func() {
		for _, b := range r.w.backends {
			b.conn.Close()
		}
	})
	_ = srv.SetReadDeadline(time.Now().Add(generous))
	n, err := io.Copy(io.Discard, srv)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v after %d of %d bytes, not a reset", err, n, sent)
	}
}

func TestNextAddressIsTriedAndTheOneThatWorkedIsFirst(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, AuthenticationTimeoutMS: 6000})
	refused, silent := pgtest.RefusedAddr(t), pgtest.SilentAddr(t)
	var good string
	r.do(func() {
		s := &r.w.servers.Servers[0]
		good = s.Addresses[0]
		s.Addresses = []string{refused, silent, good}
	})
	_, srv := r.enter(1)
	srv.Close()
	r.do(func() {
		if got := r.w.address(0).Addresses; !slices.Equal(got, []string{good, refused, silent}) {
			t.Errorf("tried next: %v", got)
		}
	})
}

func TestServerIsUnreachableWhenEveryAddressIs(t *testing.T) {
	first, second := pgtest.RefusedAddr(t), pgtest.RefusedAddr(t)
	_, _, err := dialAny(t.Context(), "tcp", []string{first, second})
	if !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second) {
		t.Errorf("%v", err)
	}
}
