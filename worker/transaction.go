package worker

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// maxScratch is how large the worker's scratch memory may stay, in bytes.
const maxScratch = 1 << 20

// fromClientPooled is fromClient in the transaction pipeline: a client without a
// backend gets one for what it says.
func (s *session) fromClientPooled(data []byte) {
	if s.backend == nil {
		s.wakePooled(data)
		return
	}
	out, leaving, err := s.tx.ClientBytes(data, s.w.scratch[:0])
	s.w.keepScratch(out)
	s.backend.conn.Send(out)
	if e := s.tx.X.First(); e != nil && e.Fate == relay.Invent {
		s.client.Send(s.tx.InventAnswers(s.w.scratch[:0]))
	}
	s.throttle()
	switch {
	case err != nil:
		s.protocolBroken(err)
	case leaving:
		s.leave(true)
	default:
		s.boundary()
	}
}

// wakePooled gets a backend for what a client says, if it needs one.
func (s *session) wakePooled(data []byte) {
	s.takeRelay()
	out := s.w.scratch[:0]
	rest, leaving, err := s.tx.Awaken(data, &out)
	if len(out) > 0 {
		s.client.Send(out)
		if s.client.Full() {
			s.client.Pause() // until Flushed
		}
	}
	if s.awakened(leaving, err) {
		return
	}
	if len(rest) > 0 {
		s.tx.Stash = rest
		s.seek()
		if s.tx.Stash != nil { // there was no backend at once
			s.tx.Stash = bytes.Clone(s.tx.Stash)
		}
		return
	}
	s.giveRelay()
}

// awakened ends a session that awaken has found the end of.
func (s *session) awakened(leaving bool, err error) bool {
	switch {
	case err != nil:
		s.protocolBroken(err)
	case leaving:
		s.leave(true)
	}
	return err != nil || leaving
}

func (s *session) protocolBroken(err error) {
	s.w.log.Warn("client broke the protocol", "client", s.c.id, "address", s.c.addr, "error", err)
	s.drop(pgwire.CodeProtocolViolation, err.Error())
}

// fromServerPooled is fromServer in the transaction pipeline.
func (s *session) fromServerPooled(data []byte) error {
	flooded := s.tx.Flooded()
	out, err := s.tx.ServerBytes(data, s.w.scratch[:0])
	s.w.keepScratch(out)
	if s.state == sessionActive {
		s.client.Send(out)
		if s.client.Full() {
			s.backend.conn.Pause()
		}
		if flooded {
			s.listen()
		}
	}
	return err
}

func (w *worker) keepScratch(b []byte) {
	if cap(b) <= maxScratch {
		w.scratch = b[:0]
	} else {
		w.scratch = nil
	}
}

// boundary gives the backend back when the transaction is over and nothing is
// owed to the client.
func (s *session) boundary() {
	if s.state != sessionActive || s.backend == nil || s.relay.Status != pgwire.TxIdle || !s.idle() {
		return
	}
	b := s.backend
	s.w.stats.count(s.relay)
	s.relay.Trim()
	s.part(b)
	if s.client.Full() {
		s.client.Pause() // until Flushed: one who doesn't read isn't listened to
	} else {
		s.client.Resume()
	}
	if s.w.cfg.ResetAlways {
		s.w.reset(b, pgwire.TxIdle, true)
		return
	}
	s.w.shelve(b)
}

// part takes note of what the client's transaction has left on a backend, and
// parts the two.
func (s *session) part(b *backend) {
	t := s.tx
	t.Tracked = b.params.Settings()
	if t.Discarded {
		s.restore()
	}
	if t.Dirty {
		b.dirty, b.dirtyBy = true, s.c.id
	}
	b.exchange.Rest()
	t.Rest()
	s.giveRelay()
	s.backend, b.session = nil, nil
}

// restore gives a client the parameters back that it logged in with: those that
// the server has reset to are of our own login.
func (s *session) restore() {
	t := s.tx
	s.client.Send(relay.AppendChanges(nil, t.Tracked.Value(), t.Initial.Value()))
	t.Tracked = t.Initial
}

// attachPooled joins a session to a backend for one transaction: what another
// client has left there goes first, then come this client's parameters.
func (s *session) attachPooled(b *backend) {
	t := s.tx
	t.X, t.There = &b.exchange, &b.prepared
	query := s.w.cfg.ResetQuery
	if !b.dirty || b.dirtyBy == s.c.id || query == "" {
		s.adaptPooled(b)
		return
	}
	s.state, b.state = sessionAdapting, backendAdapting
	s.client.Watch()
	b.run([]string{query}, func(failed []byte) {
		if failed != nil {
			s.backend, b.session = nil, nil
			s.w.closeBackend(b)
			s.seek()
			return
		}
		b.clean()
		s.adaptPooled(b)
	})
}

func (s *session) adaptPooled(b *backend) {
	t := s.tx
	var sql string
	switch {
	case !t.Ready:
		sql = relay.Adapt(&s.login.follow, &b.base, &b.params)
	case t.Tracked != b.params.Settings():
		want := t.Tracked.Value()
		sql = relay.Adapt(want.Params(), &b.base, &b.params)
	}
	if sql == "" {
		s.begin(b)
		return
	}
	s.adapt(b, sql, func() { s.begin(b) })
}

// begin starts the transaction with what the client has said already, or ends
// its login.
func (s *session) begin(b *backend) {
	t := s.tx
	switch {
	case !t.Ready:
		s.start(b, pgwire.TxIdle)
		t.Ready, t.Initial = true, b.params.Settings()
		s.welcome()
		s.boundary()
	case t.Block == relay.FailedBlock:
		s.failBlock(b)
	default:
		s.converse(b, pgwire.TxIdle)
	}
}

// start lets client and server talk to each other; status is the server's.
func (s *session) start(b *backend, status byte) {
	b.state, s.state = backendAttached, sessionActive
	s.takeRelay()
	s.relay.Start(&b.params, relay.PooledClient, relay.PooledServer)
	s.relay.Status = status
}

// converse goes on with what the client has said while it had no backend.
func (s *session) converse(b *backend, status byte) {
	s.start(b, status)
	t := s.tx
	data := t.Stash
	t.Stash = nil
	s.client.Resume()
	b.conn.Resume()
	s.fromClientPooled(data)
}

// idle reports whether the server has answered everything it was asked.
func (s *session) idle() bool {
	if s.tx != nil && s.tx.X != nil && (s.tx.X.Need > 0 || !s.tx.X.Idle()) {
		return false
	}
	return s.relay.Idle()
}

// uncertain reports whether something that wasn't answered may have ended a
// transaction.
func (s *session) uncertain() bool {
	if s.tx != nil && s.tx.X != nil && s.tx.X.Executes() {
		return true
	}
	return s.relay.Uncertain()
}

// unsynced reports whether messages of the extended protocol wait for a Sync.
func (s *session) unsynced() bool {
	return s.relay.Unsynced || s.tx != nil && s.tx.X != nil && s.tx.X.Unsynced
}

// clean notes that the reset query has run: nothing of anybody's is left.
func (b *backend) clean() {
	b.dirty, b.dirtyBy = false, 0
	b.prepared.Clear()
}

// maxRelays is how many relays are kept for the next to use.
const maxRelays = 64

// takeRelay gives a session a relay, if it has none.
func (s *session) takeRelay() {
	if s.relay != nil {
		return
	}
	w := s.w
	if n := len(w.relays); n > 0 {
		s.relay, w.relays = w.relays[n-1], w.relays[:n-1]
	} else {
		s.relay = &relay.Relay{}
	}
	if s.tx != nil {
		s.relay.Up = pgwire.NewScanner(relay.PooledClient)
		s.tx.Relay = s.relay
	}
}

// giveRelay takes the relay back from a session between transactions: it is most
// of what a client costs. One who is in the middle of a message keeps it.
func (s *session) giveRelay() {
	if s.relay.Up.AtBoundary() {
		s.dropRelay()
	}
}

func (s *session) dropRelay() {
	w, r := s.w, s.relay
	if r == nil {
		return
	}
	w.stats.count(r)
	if len(w.relays) < maxRelays {
		*r = relay.Relay{}
		w.relays = append(w.relays, r)
	}
	s.relay = nil
	if s.tx != nil {
		s.tx.Relay = nil
	}
}
