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

// Lengths of the secrets in clients' cancel keys, in bytes. Protocol 3.0 has 4, protocol
// 3.2 up to 256; like PostgreSQL, pgagroal uses 32 there.
const (
	shortSecret = 4
	longSecret  = 32
)

func givenLength(n int) bool { return n == shortSecret || n == longSecret }

// cancelKey is a client's key for cancel requests: a process id and a secret. Each session
// has one, so it is small; most have no rest.
type cancelKey struct {
	pid   uint32
	first [shortSecret]byte
	rest  string // of a long secret
}

// keyOf returns a key. The secret must have a length for which givenLength is true.
func keyOf(pid uint32, secret []byte) cancelKey {
	return cancelKey{pid, [shortSecret]byte(secret), string(secret[shortSecret:])}
}

func (k *cancelKey) secret() []byte { return append(k.first[:len(k.first):len(k.first)], k.rest...) }

// id returns the number under which the session is found in worker.cancels.
func (k *cancelKey) id() uint64 {
	return uint64(k.pid)<<32 | uint64(binary.BigEndian.Uint32(k.first[:]))
}

// ownPID makes a process id that no process has, so that pg_terminate_backend never hits a
// stranger with it: Linux has none above 4194304, other systems far fewer. It is positive
// for clients that read it as a signed number.
func ownPID(random [4]byte) uint32 { return binary.BigEndian.Uint32(random[:])>>1 | 1<<30 }

// newKey makes the client's cancel key: the backend's process id, which tools pass to
// pg_terminate_backend, and a random secret. In the transaction pipeline no backend belongs
// to the client, so the process id is made up, too (ownPID). The session keeps its key on another
// backend, because the protocol can't replace it.
func (s *session) newKey(pid uint32) {
	secret := make([]byte, shortSecret)
	if pgwire.SpeaksLongKeys(s.c.minor) {
		secret = make([]byte, longSecret)
	}
	for {
		if !s.talk.Keeps() {
			var own [4]byte
			_, _ = rand.Read(own[:]) // never fails
			pid = ownPID(own)
		}
		_, _ = rand.Read(secret)
		s.key = keyOf(pid, secret)
		if s.w.cancels[s.key.id()] == nil {
			s.w.cancels[s.key.id()] = s
			return
		}
	}
}

// cancelRequest serves a cancel request, in the set-up of its connection. It keeps the
// connection open until the request has been carried out, because clients rely on it that
// after the end of the connection the request can't hit a later statement.
func (s *setup) cancelRequest(pid uint32, key []byte) {
	if !givenLength(len(key)) {
		return // no client got such a key
	}
	s.d.await(func(done func()) { s.w.cancel(keyOf(pid, key), done) })
}

// cancel cancels the statement of the session with this key, in any worker. It calls done
// once.
func (w *worker) cancel(k cancelKey, done func()) {
	if w.cancelLocal(k, done) {
		return
	}
	id := w.newID()
	timer := w.loop.After(forwardLimit, func() { w.onCancelDone(&ipc.CancelDone{ID: id}) })
	w.requests.forwarded[id] = func() {
		timer.Stop()
		done()
	}
	w.send(&ipc.CancelRequest{ID: id, PID: k.pid, Key: ipc.Secret(k.secret())})
}

// cancelLocal cancels the statement of the session with this key, if the session is in this
// worker, and reports whether it is.
func (w *worker) cancelLocal(k cancelKey, done func()) bool {
	s := w.cancels[k.id()]
	if s == nil || s.key != k {
		return false
	}
	if s.cancelBusy(done) {
		return true
	}
	w.loop.After(secondLook, func() {
		if !s.cancelBusy(done) {
			done() // the session is idle
		}
	})
	return true
}

// cancelBusy cancels the session's statement, and reports whether there is one.
func (s *session) cancelBusy(done func()) bool {
	switch {
	case s.stash != nil && s.state == sessionWaiting:
		s.w.log.Debug("cancel request", "client", s.c.id, "waited", s.w.now()-s.waiter.Since)
		s.w.leave(s.waiter)
		s.cancelStash()
		done()
		return true
	case s.stash != nil && s.state == sessionAdapting:
		s.cancelled = true // start cancels the statement once the backend is prepared
		done()
		return true
	case s.backend == nil || s.state != sessionActive || !s.busy():
		return false
	}
	s.w.log.Debug("cancel request", "client", s.c.id, "backend", s.backend.pid)
	s.w.cancelBackend(s.backend, done)
	return true
}

// cancelStash cancels the statement that waits for a backend, so that the server never sees
// it. What the client has sent after the statement is handled as usual.
func (s *session) cancelStash() {
	said := s.stash
	s.waiter, s.stash, s.cancelled = nil, nil, false
	s.state = sessionActive
	s.client.Resume()
	s.hear(s.talk.Cancel(said))
}

func (w *worker) onCancelForward(m *ipc.CancelForward) {
	answer := func(found bool) { w.send(&ipc.CancelAnswer{ID: m.ID, Found: found}) }
	secret := []byte(m.Key.Reveal())
	if !givenLength(len(secret)) || !w.cancelLocal(keyOf(m.PID, secret), func() { answer(true) }) {
		answer(false)
	}
}

func (w *worker) onCancelDone(m *ipc.CancelDone) {
	if done := w.requests.forwarded[m.ID]; done != nil {
		delete(w.requests.forwarded, m.ID)
		done()
	}
}

// afterCancel continues with a backend that had to wait for the end of a cancel request.
func (w *worker) afterCancel(b *backend) {
	if f := b.cancelled; f != nil {
		b.cancelled = nil
		f()
		return
	}
	w.shelve(b)
}

// cancelAt sends a cancel request and waits until the server closes the connection.
func (o *outbound) cancelAt(ctx context.Context, cfg *config, addr ipc.ServerInfo, pid uint32, key []byte) error {
	conn, err := o.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if encrypt := cfg.toServers[addr.Index]; encrypt != nil {
		wired, err := encrypt.Start(conn)
		if err != nil {
			return err
		}
		if wired != nil {
			conn = wired
		}
	}
	if _, err := conn.Write(pgwire.AppendCancelRequest(nil, pid, key)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}
