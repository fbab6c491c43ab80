package worker

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// onFence cuts every connection to servers of old epochs. When it returns, and
// Fenced is on its way, nothing of ours reaches them any more: established
// backends are reset with their queues dropped, connections that goroutines work
// on are aborted, and those that a goroutine is about to hand over are refused
// when they arrive.
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

// abortBackend resets one backend and tells its session; it reports whether
// there was one.
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

// onActivityRequest tells how long ago each server sent a byte.
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

// hinted is what makes one hint another than those before.
type hinted struct {
	server   int
	epoch    uint64
	kind     ipc.HintKind
	sqlstate string
}

// hint tells the supervisor that something is wrong with a server, at once, but not
// twice in a turn of the loop: all backends of a server are lost together. What happens
// to connections of a fenced epoch is no news.
func (w *worker) hint(server int, epoch uint64, kind ipc.HintKind, sqlstate, text string) {
	h := hinted{server, epoch, kind, sqlstate}
	if epoch <= w.fenced || w.hinted[h] {
		return
	}
	if len(w.hinted) == 0 {
		w.loop.Post(func() { clear(w.hinted) })
	}
	w.hinted[h] = true
	w.send(&ipc.Hint{Server: server, Epoch: epoch, Kind: kind, SQLState: sqlstate, Text: text})
}

// hintCode passes on what an error of a server's says about the server itself.
func (w *worker) hintCode(b *backend, where string) {
	if b.Code != "" {
		w.hint(b.server, b.Epoch, hintKind(b.Died), b.Code, where)
		b.Code, b.Died = "", false
	}
}

// hintKind is the kind of hint for an error of the server's.
func hintKind(died bool) ipc.HintKind {
	if died {
		return ipc.HintDied
	}
	return ipc.HintSQLState
}

// hintOf makes a hint of an error, if it is one that says something about the
// server.
func (w *worker) hintOf(server int, epoch uint64, err error) {
	var se *auth.ServerError
	var me *auth.MethodError
	var pe *auth.PasswordRequiredError
	var ne net.Error
	kind := ipc.HintEOF
	switch {
	case errors.Is(err, errFenced), errors.As(err, &me), errors.As(err, &pe):
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
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	default:
		kind = ipc.HintUnreachable
	}
	w.hint(server, epoch, kind, "", err.Error())
}
