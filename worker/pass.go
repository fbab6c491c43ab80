package worker

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// How a worker hands everything over to another process that takes its place:
//
//  1. Pass begins it. From then on each session is tried (passTurn), a slice of them in
//     one turn of the loop, and again whenever it comes to rest (atRest). A session that is at
//     rest isn't read any more until it has gone or stays.
//  2. prepare packs the state, once everything that was sent has left the queues. From
//     there on nothing of the session can change, except that it loses its backend.
//  3. The loop releases the client's connection, then the backend's. If bytes have arrived
//     meanwhile, or somebody ends the session, the session comes back and goes on.
//  4. depart forgets the session, and sends it to the supervisor, which sends it to the
//     other process (arrive.go). A fence finds the backend here or there, because links keep the
//     order of messages; the supervisor cuts what is on its way.
//  5. Idle backends follow as they aren't needed here any more (passIdle).
//  6. When nothing is left, the worker ends like a drained one.
//
// Encrypted sessions and logins stay, and end by themselves. When the time is up, Leave ends
// each session that isn't in a transaction.

const (
	// passSlice is how many sessions or backends are tried in one turn of the loop.
	passSlice = 64
	// passEvery is the time between two rounds over all sessions.
	passEvery = 500 * time.Millisecond
)

// passing is the hand-over of everything.
type passing struct {
	on, leave bool
	// until and moved are how many sessions may be and were handed over.
	until, moved uint64
	queue        []*session // sessions that the present round still has to try
	posted       bool       // passTurn runs in this turn of the loop
	told         bool       // Passed was sent
	moves        map[*session]*move
}

// move is a session on its way out of the event loop.
type move struct {
	out     ipc.SessionOut
	backend *backend // nil for none
	// client and server are the descriptors that the loop has released, -1 before.
	client, server int
	// memory is the file with the state, -1 if that is in out.
	memory int
	// The client waited for a backend, and for how long.
	waits  bool
	waited time.Duration
	// late says that the queues didn't become empty in time for a round.
	late bool
	// then is what ends the session instead, nil for nothing.
	then func()
}

// onPass begins or continues the hand-over, or pauses it.
func (w *worker) onPass(m *ipc.Pass) {
	p := &w.passing
	if !p.on {
		p.on, p.moves = true, make(map[*session]*move)
		w.passLater()
	}
	p.until, p.leave = m.Until, p.leave || m.Leave
	if len(p.queue) == 0 {
		w.beginPassRound()
	}
	w.passSoon()
}

// passLater begins a round over all sessions from time to time, for those that could come to rest
// unnoticed.
func (w *worker) passLater() {
	w.loop.After(passEvery, func() {
		w.passLater()
		w.passSoon() // the round may have stopped while no primary was open
		if len(w.passing.queue) > 0 {
			return
		}
		for s, mv := range w.passing.moves {
			if mv.late && s.state == sessionActive { // its client doesn't read what it was sent
				w.stays(s)
			}
			mv.late = true
		}
		w.beginPassRound()
	})
}

func (w *worker) beginPassRound() {
	for _, c := range w.clients {
		if c.session != nil {
			w.passing.queue = append(w.passing.queue, c.session)
		}
	}
}

// passSoon has passTurn run at the end of this turn of the loop.
func (w *worker) passSoon() {
	if p := &w.passing; p.on && !p.posted {
		p.posted = true
		w.loop.Post(w.passTurn)
	}
}

// mayPass reports whether one more session may be handed over now.
func (w *worker) mayPass() bool {
	p := &w.passing
	return p.on && w.exit == 0 && !w.draining && w.servers.Open && w.quiescing == 0 && p.moved+uint64(len(p.moves)) < p.until
}

// passTurn tries the next sessions, and hands over backends that nobody here needs.
func (w *worker) passTurn() {
	p := &w.passing
	p.posted = false
	if w.exit != 0 || w.draining {
		return
	}
	for n := 0; n < passSlice && len(p.queue) > 0 && (p.leave || w.mayPass()); n++ {
		s := p.queue[0]
		p.queue = p.queue[1:]
		s.atRest(false)
	}
	if len(p.queue) > 0 && (p.leave || w.mayPass()) {
		w.passSoon()
	} else if len(p.queue) == 0 {
		w.tellPassed()
	}
	w.passIdle()
	w.checkPassed()
}

// tellPassed reports that every session was tried.
func (w *worker) tellPassed() {
	p := &w.passing
	if p.told || len(p.moves) > 0 {
		return
	}
	p.told = true
	m := &ipc.Passed{Moved: p.moved}
	for _, c := range w.clients {
		if s := c.session; s != nil && s.encrypted() {
			m.Encrypted++
		} else {
			m.Other++
		}
	}
	w.send(m)
}

// passIdle hands over the idle backends that the clients that are still here don't need.
func (w *worker) passIdle() {
	if w.passing.until == 0 {
		return
	}
	for n, x := range w.shelf.Surplus(len(w.clients)) {
		if n == passSlice {
			w.passSoon()
			return
		}
		w.shelf.Unshelve(x)
		w.handOver(x.Of.(*backend))
	}
}

// checkPassed tells the supervisor that nothing is left. A backend that comes back takes
// that back.
func (w *worker) checkPassed() {
	if !w.passing.on || w.exit != 0 || w.emptied || !w.drained() || len(w.outbounds) > 0 {
		return
	}
	w.flushGone()
	w.emptied = true
	w.send(&ipc.Drained{})
}

// encrypted reports whether one of the session's connections can't be moved, because its keys
// stay in this process.
func (s *session) encrypted() bool {
	return s.client.Secured() != nil || s.backend != nil && s.backend.conn.Secured() != nil
}

// movable reports whether another worker can continue the session, as it is now.
func (s *session) movable() bool {
	if !s.welcomed || s.encrypted() || s.login.stored != nil {
		return false
	}
	b := s.backend
	switch {
	case s.state == sessionWaiting:
		return b == nil && (!s.talk.Keeps() || s.kept())
	case s.state != sessionActive || s.flooded || s.halted || !s.talk.Movable():
		return false
	}
	return b == nil || b.script == nil && b.cancel == nil && b.state == backendAttached
}

// atRest begins to hand the session over if it is at rest. In the end, a session that can't be
// handed over leaves. A client that was just answered isn't read until its answer is sent. Any other
// client that has unsent answers doesn't read them, so it goes on.
func (s *session) atRest(answered bool) {
	w := s.w
	switch {
	case s.state == sessionGone || w.passing.moves[s] != nil:
	case w.mayPass() && s.movable() && (answered || s.client.Queued() == 0):
		mv := &move{client: -1, server: -1, memory: -1, backend: s.backend}
		w.passing.moves[s] = mv
		if s.state == sessionActive {
			s.client.Pause()
		}
		w.loop.Post(func() { w.tryMove(s) })
	case w.passing.leave && !s.inTransaction():
		w.terminate(s.c)
	}
}

func (s *session) inTransaction() bool {
	switch s.state {
	case sessionActive:
		return s.backend != nil && s.talk.Stand() != relay.Resting
	case sessionWaiting:
		return false
	}
	return true // it is just being prepared for its next statement, or is leaving anyway
}

// tryMove takes a session out of the loop once its queues are empty.
func (w *worker) tryMove(s *session) {
	mv := w.passing.moves[s]
	if mv == nil || s.state == sessionMoving {
		return
	}
	b := s.backend
	mv.backend = b
	if !s.movable() || w.exit != 0 || w.draining {
		w.stays(s)
		return
	}
	if s.client.Queued() > 0 || b != nil && b.conn.Queued() > 0 {
		return // Flushed continues
	}
	if !s.prepare(mv) {
		w.stays(s)
		return
	}
	if mv.waits = s.state == sessionWaiting; mv.waits {
		mv.waited = w.hasWaited(s.waiter)
		w.leave(s.waiter)
		s.waiter = nil
	}
	s.state = sessionMoving
	if b != nil {
		b.conn.Pause()
	}
	s.client.Detach(func(fd int) { w.clientReleased(s, mv, fd) })
}

// stays lets a session go on that was about to be handed over.
func (w *worker) stays(s *session) {
	w.passing.moves[s].forgetState()
	delete(w.passing.moves, s)
	if s.state == sessionActive {
		s.listen()
	}
}

// clientReleased continues when the loop has released the client's connection. fd is -1 if the
// client has sent something.
func (w *worker) clientReleased(s *session, mv *move, fd int) {
	mv.client = fd
	switch {
	case fd < 0 || mv.then != nil:
		w.comesBack(s, mv)
	case mv.backend == nil:
		w.depart(s, mv)
	default:
		mv.backend.conn.Detach(func(fd int) { w.serverReleased(s, mv, fd) })
	}
}

func (w *worker) serverReleased(s *session, mv *move, fd int) {
	mv.server = fd
	if fd < 0 || mv.then != nil {
		w.comesBack(s, mv)
		return
	}
	w.depart(s, mv)
}

// interrupted keeps something that ends the session, or that it has lost its backend, until the
// session has come back. It returns false for a session that isn't on its way.
func (s *session) interrupted(lost bool, then func()) bool {
	if s.state != sessionMoving {
		return false
	}
	mv := s.w.passing.moves[s]
	if mv.then == nil || !lost {
		mv.then = then
	}
	if lost && mv.client >= 0 { // the loop doesn't release a connection that was aborted
		s.w.comesBack(s, mv)
	}
	return true
}

// comesBack continues a session here.
func (w *worker) comesBack(s *session, mv *move) {
	mv.forgetState()
	delete(w.passing.moves, s)
	s.state = sessionActive
	then := mv.then
	if mv.client >= 0 {
		conn, err := w.loop.Add(mv.client, (*clientEnd)(s))
		if err == nil {
			s.client = conn
		} else if then == nil {
			then = func() { s.leave(false) }
		}
	}
	if b := s.backend; b != nil && mv.server >= 0 {
		conn, err := w.loop.Add(mv.server, (*backendEnd)(b))
		if err == nil {
			b.conn = conn
		} else if then == nil {
			then = func() { w.closeBackend(b); s.serverGone() }
		}
	}
	switch {
	case then != nil:
		then()
	case mv.waits:
		s.seekOn(mv.waited)
	default:
		if s.backend != nil {
			s.backend.conn.Resume()
		}
		s.listen()
	}
	w.passSoon()
}

// depart forgets a session and its backend, and sends them away.
func (w *worker) depart(s *session, mv *move) {
	delete(w.passing.moves, s)
	fds := []int{mv.client}
	if b := mv.backend; b != nil {
		fds = append(fds, mv.server)
		b.state, b.session = backendClosed, nil
		b.leftovers.Stop()
		delete(w.backends, b.Lease)
		mv.out.Lease, mv.out.Backend.Flushed = b.Lease, b.Flushed
		w.shelf.Gone(&b.shelved)
	}
	mv.out.Client = s.c.id
	if mv.memory >= 0 {
		fds = append(fds, mv.memory)
	}
	s.backend = nil
	s.forget()
	delete(w.clients, s.c.id)
	w.passing.moved++
	w.send(&mv.out, fds...)
	if s.c.leaves {
		w.disown(s.c.id)
	}
	w.carryOut()
	w.passSoon()
}

// forgetState closes the file with the state of a session that stays.
func (mv *move) forgetState() {
	if mv.memory >= 0 {
		unix.Close(mv.memory)
		mv.memory = -1
	}
}

// mapped returns a file in memory with a state.
func mapped(state ipc.Secret) (int, error) {
	fd, err := unix.MemfdCreate("session", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	for rest := []byte(state.Reveal()); len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		rest = rest[n:]
	}
	return fd, nil
}
