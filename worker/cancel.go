package worker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// cancelLimit is how long a server may take to act on a cancel request.
	cancelLimit = 2 * time.Second
	// forwardLimit is how long the other workers may take to find the session.
	forwardLimit = 5 * time.Second
)

// Lengths of the secrets that clients get, in bytes: protocol 3.0 has room for 4,
// and of what 3.2 has room for PostgreSQL takes as many.
const (
	shortSecret = 4
	longSecret  = 32
)

func givenLength(n int) bool { return n == shortSecret || n == longSecret }

// cancelKey is what a client was given for cancel requests: a process id and a
// secret. There are very many, and most have no rest.
type cancelKey struct {
	pid   uint32
	first [shortSecret]byte
	rest  string // of a long secret
}

// keyOf makes a key of a secret of a length that we give.
func keyOf(pid uint32, secret []byte) cancelKey {
	return cancelKey{pid, [shortSecret]byte(secret), string(secret[shortSecret:])}
}

func (k *cancelKey) secret() []byte { return append(k.first[:len(k.first):len(k.first)], k.rest...) }

// id is what a session is found by.
func (k *cancelKey) id() uint64 {
	return uint64(k.pid)<<32 | uint64(binary.BigEndian.Uint32(k.first[:]))
}

// newKey makes the client's cancel key: the backend's process id, which tools
// and pg_terminate_backend depend on, with a secret of ours. In the transaction
// pipeline no process id of a server belongs to a client, and both are ours.
func (s *session) newKey(pid uint32) {
	secret := make([]byte, shortSecret)
	if pgwire.SpeaksLongKeys(s.c.minor) {
		secret = make([]byte, longSecret)
	}
	for {
		if !s.talk.Keeps() {
			var own [4]byte
			_, _ = rand.Read(own[:]) // never fails
			pid = binary.BigEndian.Uint32(own[:]) >> 1
		}
		_, _ = rand.Read(secret)
		s.key = keyOf(pid, secret)
		if s.w.cancels[s.key.id()] == nil {
			s.w.cancels[s.key.id()] = s
			return
		}
	}
}

// cancelRequest serves a client's cancel request, in its set-up. The connection stays
// open until the request was carried out, as a client expects that its cancel can't
// hit a later statement.
func (s *setup) cancelRequest(pid uint32, key []byte) {
	if !givenLength(len(key)) {
		return // not a key that we gave to anybody
	}
	s.d.await(func(done func()) { s.w.cancel(keyOf(pid, key), done) })
}

// cancel cancels what a session is doing and calls done once.
func (w *worker) cancel(k cancelKey, done func()) {
	if w.cancelLocal(k, done) {
		return
	}
	id := w.newID()
	timer := w.loop.After(forwardLimit, func() { w.onCancelDone(&ipc.CancelDone{ID: id}) })
	w.forwarded[id] = func() {
		timer.Stop()
		done()
	}
	w.send(&ipc.CancelRequest{ID: id, PID: k.pid, Key: ipc.Secret(k.secret())})
}

// cancelLocal reports whether the session is one of ours. One without a backend
// has nothing to cancel.
func (w *worker) cancelLocal(k cancelKey, done func()) bool {
	s := w.cancels[k.id()]
	if s == nil || s.key != k {
		return false
	}
	if s.backend == nil || s.state != sessionActive {
		done()
		return true
	}
	w.log.Debug("cancel request", "client", s.c.id, "backend", s.backend.pid)
	w.cancelBackend(s.backend, done)
	return true
}

func (w *worker) onCancelForward(m *ipc.CancelForward) {
	answer := func(found bool) { w.send(&ipc.CancelAnswer{ID: m.ID, Found: found}) }
	secret := []byte(m.Key.Reveal())
	if !givenLength(len(secret)) || !w.cancelLocal(keyOf(m.PID, secret), func() { answer(true) }) {
		answer(false)
	}
}

func (w *worker) onCancelDone(m *ipc.CancelDone) {
	if done := w.forwarded[m.ID]; done != nil {
		delete(w.forwarded, m.ID)
		done()
	}
}

// cancelBackend asks the server to cancel what a backend is doing. Until the
// server has closed that connection the signal may still be on its way, so the
// backend is given to nobody; one whose server doesn't answer isn't reused.
func (w *worker) cancelBackend(b *backend, done func()) {
	ctx, stop := context.WithTimeout(context.Background(), cancelLimit)
	o := &outbound{epoch: b.epoch, stop: stop}
	w.outbounds[o] = struct{}{}
	b.cancelling++
	addr, pid, key := w.address(b.server), b.pid, b.key
	go func() {
		defer stop()
		err := o.cancelAt(ctx, addr, pid, key)
		w.loop.Post(func() {
			delete(w.outbounds, o)
			b.cancelling--
			if err != nil {
				b.spoiled = true
			}
			done()
			if b.cancelling == 0 && b.state == backendResetting && b.script == nil {
				w.afterCancel(b)
			}
		})
	}()
}

// afterCancel goes on with a backend that was held back for a cancel request.
func (w *worker) afterCancel(b *backend) {
	if f := b.cancelled; f != nil {
		b.cancelled = nil
		f()
		return
	}
	w.shelve(b)
}

// cancelAt sends a cancel request and waits until the server closes.
func (o *outbound) cancelAt(ctx context.Context, addr ipc.ServerInfo, pid uint32, key []byte) error {
	conn, err := o.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(pgwire.AppendCancelRequest(nil, pid, key)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}
