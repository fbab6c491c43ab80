package worker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// When all backends of a server are lost together, the supervisor gets one hint.
func TestHintOfATurnIsSentOnce(t *testing.T) {
	r := newRig(t, sessions())
	for turn := range 2 {
		r.do(func() {
			for range 1000 {
				r.w.hint(0, 1, ipc.HintReset, "", "read: connection reset")
				r.w.hint(0, 1, ipc.HintSQLState, "57P01", "session")
				r.w.hint(1, 1, ipc.HintReset, "", "read: connection reset")
			}
			r.w.send(&ipc.Pong{ID: uint64(turn)})
		})
	}
	hints := 0
	for {
		switch m := expectAny(r).(type) {
		case *ipc.Hint:
			hints++
		case *ipc.Pong:
			if hints != 3 {
				t.Errorf("%d hints in turn %d, not 3", hints, m.ID)
			}
			if hints = 0; m.ID == 1 {
				return
			}
		}
	}
}

// A server that was fenced is fenced for a reason: its backends, which the fence has reset, have nothing to tell.
func TestBackendOfAFencedEpochIsNoHint(t *testing.T) {
	r := newRig(t, sessions())
	r.do(func() {
		r.w.onFence(&ipc.Fence{Epoch: 1, Seq: 1})
		r.w.hint(0, 1, ipc.HintReset, "", "read: connection reset")
		r.w.hint(0, 2, ipc.HintReset, "", "read: connection reset")
		r.w.send(&ipc.Pong{ID: 1})
	})
	if m := expect[*ipc.Hint](r); m.Epoch != 2 {
		t.Errorf("a hint of epoch %d", m.Epoch)
	}
}

// The end of a session by the death of its postmaster is told from that by a command, which has the same SQLSTATE.
func TestHintTellsADeadPostmasterFromACommand(t *testing.T) {
	for routine, want := range map[string]ipc.HintKind{"secure_read": ipc.HintDied, "ProcessInterrupts": ipc.HintSQLState} {
		t.Run(routine, func(t *testing.T) {
			r := newRig(t, sessions())
			_, srv := r.enter(1)
			const code, text = "57P01", "terminating connection"
			if _, err := srv.Write(pgwire.AppendMessage(nil, 'E', []byte("SFATAL\x00VFATAL\x00C"+code+"\x00M"+text+"\x00R"+routine+"\x00\x00"))); err != nil {
				t.Fatal(err)
			}
			srv.Close()
			if m := expect[*ipc.Hint](r); m.Kind != want || m.SQLState != code {
				t.Errorf("the hint of a session is %+v", m)
			}
			r.do(func() {
				r.w.hintOf(0, 1, &auth.ServerError{Fields: pgwire.ErrorFields{Code: code, Routine: routine}})
			})
			m := expect[*ipc.Hint](r)
			if m.Kind == ipc.HintEOF { // the session's connection ended, too
				m = expect[*ipc.Hint](r)
			}
			if m.Kind != want || m.SQLState != code || m.Text != "login" {
				t.Errorf("the hint of a login is %+v", m)
			}
		})
	}
}

func expectAny(r *rig) ipc.Message { return wait(r.t, r.msgs, "a message") }

// A server whose TLS or method isn't as it should be is there: nothing of it may look like its death.
func TestFailureOfTLSIsNoHint(t *testing.T) {
	r := newRig(t, sessions())
	silent := []error{
		tlsdial.ErrNoTLS, auth.ErrNotBound, auth.Methods{auth.SCRAM}.Check(auth.Password), &tlsdial.RefusedError{Err: io.ErrShortWrite},
		fmt.Errorf("begin: %w", &tlsdial.RefusedError{Err: io.ErrShortWrite}),
		&net.OpError{Op: "remote error", Err: tls.AlertError(48)},
		&net.OpError{Op: "local error", Err: tls.AlertError(20)},
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
	}
	heard := map[error]ipc.HintKind{
		tlsmem.ErrNoCloseNotify: ipc.HintEOF, tlsmem.ErrTruncated: ipc.HintEOF, io.EOF: ipc.HintEOF, unix.ECONNRESET: ipc.HintReset,
	}
	r.do(func() {
		for _, err := range silent {
			r.w.hintOf(0, 1, err)
		}
		r.w.send(&ipc.Pong{ID: 1})
	})
	if m, ok := expectAny(r).(*ipc.Pong); !ok {
		t.Errorf("a hint: %+v", m)
	}
	for err, kind := range heard {
		r.do(func() { r.w.hintOf(0, 1, err); r.w.send(&ipc.Pong{ID: 2}) })
		if m, ok := expectAny(r).(*ipc.Hint); !ok || m.Kind != kind {
			t.Errorf("%v: %+v", err, m)
			continue
		}
		expectAny(r) // Pong
	}
}
