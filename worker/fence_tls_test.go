package worker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// moving is a connection whose bytes go another way after the handshake.
type moving struct{ net.Conn }

// encryptBackend puts TLS on the connection of the only backend, and returns the server's end of it.
func (r *rig) encryptBackend(srv *serverEnd) *tls.Conn {
	r.t.Helper()
	ours, theirs := net.Pipe()
	r.t.Cleanup(func() { ours.Close(); theirs.Close() })
	wire := &moving{theirs}
	server := tls.Server(wire, selfSigned(r.t))
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	wired, err := tlsmem.Dial(ours, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) // 1.3 would send tickets, too
	if err != nil {
		r.t.Fatal(err)
	}
	if err := wait(r.t, shaken, "the server's handshake"); err != nil {
		r.t.Fatal(err)
	}
	wire.Conn = srv.TCPConn
	r.do(func() {
		for _, b := range r.w.backends {
			b.conn.Secure(wired.Memory(r.w.loop.Memory()))
		}
	})
	return server
}

// A server must see at once that a fenced connection is cut, and not take it for an orderly end.
func TestFenceAbortsAnEncryptedBackendWithoutCloseNotify(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session"})
	_, srv := r.enter(1)
	server := r.encryptBackend(srv)
	r.send(&ipc.Fence{Epoch: 1, Seq: 1})
	if f := expect[*ipc.Fenced](r); f.Aborted != 1 {
		t.Errorf("%d aborted", f.Aborted)
	}
	if err := server.SetReadDeadline(time.Now().Add(generous)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the server sees an orderly end: %v", err)
	}
}
