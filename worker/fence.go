package worker

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// onFence cuts every connection of the fenced epochs. When it sends Fenced, this worker
// sends nothing on them any more: it has reset the backends and dropped their queues,
// aborted the connections that goroutines use, and refuses connections that goroutines hand
// over later.
func (w *worker) onFence(m *ipc.Fence) {
	w.fenced = max(w.fenced, m.Epoch)
	if w.servers.Epoch <= m.Epoch {
		w.servers.Open = false
		w.shelf.SetTarget(false, w.servers.Epoch, w.now())
	}
	for o := range w.outbounds {
		if o.epoch <= m.Epoch {
			o.fence()
		}
	}
	answer := &ipc.Fenced{Epoch: m.Epoch, Seq: m.Seq}
	for _, b := range w.backends {
		if b.Epoch > m.Epoch {
			continue
		}
		answer.Aborted++
		if w.abortBackend(b) {
			answer.Sessions++
		}
	}
	w.send(answer)
	w.log.Debug("fenced", "epoch", m.Epoch, "backends", answer.Aborted, "sessions", answer.Sessions)
}

// abortBackend resets one backend and tells its session. It reports whether there was a
// session.
func (w *worker) abortBackend(b *backend) bool {
	s := b.session
	b.conn.Drop()
	b.conn.Abort()
	b.retire()
	w.finishClose(b)
	if s == nil {
		return false
	}
	s.serverGone()
	return true
}

// onActivityRequest answers how long ago each server has sent its last byte to this worker.
func (w *worker) onActivityRequest(m *ipc.ActivityRequest) {
	a := &ipc.Activity{ID: m.ID, AgesMS: make([]int64, len(w.lastByte))}
	for i, t := range w.lastByte {
		a.AgesMS[i] = -1
		if !t.IsZero() {
			a.AgesMS[i] = time.Since(t).Milliseconds()
		}
	}
	w.send(a)
}

// hinted identifies a hint, so that each is sent only once.
type hinted struct {
	server   int
	epoch    uint64
	kind     ipc.HintKind
	sqlstate string
}

// hint tells the supervisor at once that something is wrong with a server. It sends equal
// hints once per turn of the loop, because the backends of a server are often lost
// together. It ignores connections of a fenced epoch.
func (w *worker) hint(server int, epoch uint64, kind ipc.HintKind, sqlstate, text string) {
	h := hinted{server, epoch, kind, sqlstate}
	if epoch <= w.fenced {
		return
	}
	w.doubted[server] = w.loop.Now()
	if w.hinted[h] {
		return
	}
	if len(w.hinted) == 0 {
		w.loop.Post(func() { clear(w.hinted) })
	}
	w.hinted[h] = true
	w.send(&ipc.Hint{Server: server, Epoch: epoch, Kind: kind, SQLState: sqlstate, Text: text})
}

// hintCode sends a hint if the conversation has seen an error that concerns the server
// itself.
func (w *worker) hintCode(b *backend, where string) {
	if b.Code != "" {
		w.hint(b.server, b.Epoch, hintKind(b.Died), b.Code, where)
		b.Code, b.Died = "", false
	}
}

// hintKind returns the kind of hint for an error of a server.
func hintKind(died bool) ipc.HintKind {
	if died {
		return ipc.HintDied
	}
	return ipc.HintSQLState
}

// hintOf sends a hint for an error of a connection, if the error concerns the server.
func (w *worker) hintOf(server int, epoch uint64, err error) {
	var se *auth.ServerError
	var me *auth.MethodError
	var pe *auth.PasswordRequiredError
	var secret *secretError
	var ne net.Error
	kind := ipc.HintEOF
	switch {
	case errors.Is(err, errFenced), errors.Is(err, auth.ErrStale), errors.Is(err, logline.ErrPanic), errors.As(err, &me), errors.As(err, &pe), errors.As(err, &secret), ofTLS(err):
		return
	case errors.As(err, &se):
		if transient(err) {
			w.hint(server, epoch, hintKind(se.Fields.PostmasterDied()), se.Fields.Code, "login")
		}
		return
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		kind = ipc.HintRefused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		kind = ipc.HintReset
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), errors.As(err, &ne) && ne.Timeout():
		kind = ipc.HintTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, tlsmem.ErrNoCloseNotify), errors.Is(err, tlsmem.ErrTruncated):
	default:
		kind = ipc.HintUnreachable
	}
	w.hint(server, epoch, kind, "", err.Error())
}

// ofTLS reports whether TLS with a server, or the binding of a login to it, failed. The server answers, so such an error
// is no sign that it is dead.
func ofTLS(err error) bool {
	var refused *tlsdial.RefusedError
	if errors.Is(err, tlsdial.ErrNoTLS) || errors.Is(err, auth.ErrNotBound) || errors.As(err, &refused) {
		return true
	}
	switch tlsmem.CauseOf(err) {
	case tlsmem.CauseNotTLS, tlsmem.CauseCertificate, tlsmem.CauseAlert, tlsmem.CauseRefused:
		return true
	}
	return false
}
