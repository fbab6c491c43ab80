package worker

import (
	"bytes"
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
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
	out, leaving, err := s.tx.clientBytes(data, s.w.scratch[:0])
	s.w.keepScratch(out)
	s.backend.conn.Send(out)
	if e := s.tx.x.first(); e != nil && e.fate == invent {
		s.client.Send(s.tx.inventAnswers(s.w.scratch[:0]))
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
	rest, leaving, err := s.tx.awaken(data, &out)
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
		s.tx.stash = rest
		s.seek()
		if s.tx.stash != nil { // there was no backend at once
			s.tx.stash = bytes.Clone(s.tx.stash)
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
	flooded := s.tx.flooded()
	out, err := s.tx.serverBytes(data, s.w.scratch[:0])
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
	if s.state != sessionActive || s.backend == nil || s.relay.status != pgwire.TxIdle || !s.idle() {
		return
	}
	b := s.backend
	s.w.stats.count(s.relay)
	s.relay.trim()
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
	t.tracked = b.params.settings()
	if t.discarded {
		s.restore()
	}
	if t.dirty {
		b.dirty, b.dirtyBy = true, s.c.id
	}
	b.exchange.rest()
	t.rest()
	s.giveRelay()
	s.backend, b.session = nil, nil
}

// restore gives a client the parameters back that it logged in with: those that
// the server has reset to are of our own login.
func (s *session) restore() {
	t := s.tx
	s.client.Send(appendChanges(nil, t.tracked.Value(), t.initial.Value()))
	t.tracked = t.initial
}

// appendChanges appends what a client is told whose tracked parameters change.
func appendChanges(dst []byte, from, to settings) []byte {
	for i, name := range tracked {
		if from.values[i] != to.values[i] {
			dst = pgwire.AppendParameterStatus(dst, name, to.values[i])
		}
	}
	return dst
}

// rest forgets what belongs to the transaction that is over.
func (p *pooled) rest() {
	u := &p.unnamed
	u.here = false
	u.exists = u.exists && u.kept && !(u.used && len(u.tail) > maxUnnamed)
	switch {
	case !u.exists && cap(u.tail) > 1024:
		u.tail = nil
	case cap(u.tail) > 2*len(u.tail)+1024:
		u.tail = bytes.Clone(u.tail)
	}
	p.x, p.there = nil, nil
	p.dirty, p.discarded, p.described = false, false, false
	p.portal, p.portals = 0, 0
}

// attachPooled joins a session to a backend for one transaction: what another
// client has left there goes first, then come this client's parameters.
func (s *session) attachPooled(b *backend) {
	t := s.tx
	t.x, t.there = &b.exchange, &b.prepared
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
	case !t.ready:
		sql = adapt(&s.login.follow, &b.base, &b.params)
	case t.tracked != b.params.settings():
		want := t.tracked.Value()
		sql = adapt(want.params(), &b.base, &b.params)
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
	case !t.ready:
		s.start(b, pgwire.TxIdle)
		t.ready, t.initial = true, b.params.settings()
		s.welcome()
		s.boundary()
	case t.block == failedBlock:
		s.failBlock(b)
	default:
		s.converse(b, pgwire.TxIdle)
	}
}

// start lets client and server talk to each other; status is the server's.
func (s *session) start(b *backend, status byte) {
	b.state, s.state = backendAttached, sessionActive
	s.takeRelay()
	s.relay.start(&b.params, pooledClient, pooledServer)
	s.relay.status = status
}

// converse goes on with what the client has said while it had no backend.
func (s *session) converse(b *backend, status byte) {
	s.start(b, status)
	t := s.tx
	data := t.stash
	t.stash = nil
	s.client.Resume()
	b.conn.Resume()
	s.fromClientPooled(data)
}

// idle reports whether the server has answered everything it was asked.
func (s *session) idle() bool {
	if s.tx != nil && s.tx.x != nil && (s.tx.x.need > 0 || !s.tx.x.idle()) {
		return false
	}
	return s.relay.idle()
}

// uncertain reports whether something that wasn't answered may have ended a
// transaction.
func (s *session) uncertain() bool {
	if s.tx != nil && s.tx.x != nil && s.tx.x.executes() {
		return true
	}
	return s.relay.uncertain()
}

// unsynced reports whether messages of the extended protocol wait for a Sync.
func (s *session) unsynced() bool {
	return s.relay.unsynced || s.tx != nil && s.tx.x != nil && s.tx.x.unsynced
}

// settings returns the values of the tracked parameters.
func (p *params) settings() unique.Handle[settings] {
	if p.changed || p.tracked == (unique.Handle[settings]{}) {
		p.changed = false
		var v settings
		for i, name := range tracked {
			v.values[i], _ = p.get(name)
		}
		p.tracked = unique.Make(v)
	}
	return p.tracked
}

// clean notes that the reset query has run: nothing of anybody's is left.
func (b *backend) clean() {
	b.dirty, b.dirtyBy = false, 0
	b.prepared.clear()
}

// params returns the settings as parameters.
func (v settings) params() *params {
	p := &params{}
	for i, name := range tracked {
		p.set(name, v.values[i])
	}
	return p
}
