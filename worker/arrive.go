package worker

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// arrival is a session from another worker.
type arrival struct {
	m              *ipc.SessionIn
	state          *ipc.SessionState
	client, server int // descriptors, -1 for none
	backend        *backend
}

// onSessionIn continues a session of another worker (pass.go). If that is impossible, the client
// is told that its session is over.
func (w *worker) onSessionIn(m *ipc.SessionIn, fds []int) {
	w.send(&ipc.SessionTaken{Client: m.Client})
	w.emptied = false
	a, err := w.unpack(m, fds)
	var s *session
	if err == nil {
		s, err = w.resume(a)
	}
	if err != nil {
		w.log.Error("session of another worker can't be continued", "client", m.Client, "error", err)
		w.turnBack(a)
		return
	}
	w.goOn(s, a)
}

var (
	errFewFiles = errors.New("too few descriptors have arrived")
	errTaken    = errors.New("its id or its cancel key is that of another session")
	errLong     = errors.New("the state is too long")
	errEnding   = errors.New("this worker is ending")
)

// unpack sorts the descriptors of a session, and decodes its state. It returns an arrival even with an
// error.
func (w *worker) unpack(m *ipc.SessionIn, fds []int) (*arrival, error) {
	a := &arrival{m: m, client: -1, server: -1}
	want := 1
	if m.Lease != 0 {
		want++
	}
	if m.Mapped != 0 {
		want++
	}
	if len(fds) != want {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return a, errFewFiles
	}
	a.client = fds[0]
	if m.Lease != 0 {
		a.server = fds[1]
	}
	state := m.State
	if m.Mapped != 0 {
		var err error
		if state, err = readMapped(fds[want-1], m.Mapped); err != nil {
			return a, err
		}
	}
	var err error
	if a.state, err = ipc.UnpackSession(state); err != nil {
		return a, err
	}
	var backend *ipc.BackendState
	if m.Lease != 0 || m.Cut {
		backend = &m.Backend
	}
	return a, checkState(a.state, backend)
}

// readMapped reads a state from a file in memory, and closes it.
func readMapped(fd int, size int64) (ipc.Secret, error) {
	f := os.NewFile(uintptr(fd), "session")
	defer f.Close()
	if size < 0 || size > ipc.MaxSessionState {
		return "", errLong
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return "", err
	}
	return ipc.Secret(b), nil
}

// resume makes the session and its backend, which belong to the worker from then on.
func (w *worker) resume(a *arrival) (*session, error) {
	m, st := a.m, a.state
	if w.exit != 0 || w.draining {
		return nil, errEnding
	}
	l := loginFrom(&st.Login)
	key := keyOf(st.CancelPID, []byte(st.CancelSecret.Reveal()))
	if w.clients[m.Client] != nil || w.cancels[key.id()] != nil || w.backends[m.Lease] != nil {
		return nil, errTaken
	}
	var held *relay.Backend
	var b *backend
	if m.Lease != 0 || m.Cut {
		b = w.moved(&ipc.TakeOver{Lease: m.Lease, Backend: m.Backend})
		b.Private, b.Spoiled = st.Held.Private, st.Held.Spoiled
		held = &b.Backend
	}
	h := st.Held
	talk, err := w.shared.Continue(m.Client, carriedOf(&st.Talk), held, relay.Hold{
		Status: h.Status, Resets: h.Resets, Indelible: h.Indelible, Dirty: h.Dirty, Sequences: h.Sequences, MaySetFurther: h.Sets,
	}, w.cfg.readerAgain(st.Talk.Keep.Trusts))
	if err != nil {
		return nil, err
	}
	if st.Talk.Keep.On {
		w.keeps()
	}
	c := &client{
		id: m.Client, addr: st.Address, start: time.Now().Add(-ms(st.AgeMS)), minor: st.Minor, leaves: st.Leaves, since: st.Since,
		stood: w.stoodSince(st),
	}
	s := &session{w: w, c: c, login: l, talk: talk, key: key, welcomed: true, state: sessionActive}
	c.session = s
	if s.client, err = w.loop.Add(a.client, (*clientEnd)(s)); err != nil {
		a.client = -1
		talk.End()
		return nil, err
	}
	a.client, a.backend = -1, b
	w.clients[c.id], w.cancels[key.id()] = c, s
	w.sessions++
	return s, nil
}

// stoodSince is how a session has stood in the other worker. Its present state counts from now on, if it is
// another one.
func (w *worker) stoodSince(st *ipc.SessionState) stood {
	return stood{since: uint32((w.now() - ms(st.StoodMS)) / tick), load: relay.Load(st.Load), cancelled: st.Cancelled}
}

// goOn continues a session with its backend, or with what it waits for.
func (w *worker) goOn(s *session, a *arrival) {
	m := a.m
	b := a.backend
	if b == nil {
		s.login = w.share(s.login)
		if a.state.Waiting {
			s.stash = []byte(a.state.Unanswered.Reveal())
			s.seekOn(ms(a.state.WaitedMS))
			return
		}
		s.client.Resume()
		w.passSoon()
		return
	}
	conn, err := w.reach(b, a)
	if err != nil {
		if m.Lease != 0 {
			w.returnLease(m.Lease)
		}
		s.login = w.share(s.login)
		s.serverGone()
		return
	}
	b.conn, b.since, b.state = conn, w.loop.Now(), backendAttached
	w.backends[b.Lease] = b
	w.shelf.Adopt(pool.Key(m.Backend.Key), &b.shelved)
	s.login = w.share(s.login)
	w.learn(b)
	s.backend, b.session = b, s
	b.conn.Resume()
	s.listen()
	s.boundary(s.talk.Stand())
}

var errCut = errors.New("the backend was fenced")

// reach adds the backend's connection to the loop, unless the backend was fenced on the way.
func (w *worker) reach(b *backend, a *arrival) (*reactor.Conn, error) {
	fd := a.server
	a.server = -1
	if fd < 0 {
		return nil, errCut
	}
	if b.Epoch <= w.fenced {
		reactor.Abort(fd)
		return nil, errCut
	}
	return w.loop.Add(fd, (*backendEnd)(b))
}

// turnBack ends a session that can't be continued.
func (w *worker) turnBack(a *arrival) {
	if a.client >= 0 {
		_ = unix.Sendto(a.client, pgwire.RefusalTerminated.With().Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		unix.Close(a.client)
	}
	if a.server >= 0 {
		reactor.Abort(a.server)
	}
	if a.m.Lease != 0 {
		w.returnLease(a.m.Lease)
	}
	if w.clients[a.m.Client] == nil {
		w.tellGone(a.m.Client)
	}
}
