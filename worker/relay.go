package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// The flow of bytes through a relay:
//
//  1. clientBytes looks at a chunk from the client: it notes what the server
//     will have to answer, and says how much of the chunk is to be forwarded.
//  2. serverBytes looks at a chunk from the server: it strikes out what has been
//     answered, and keeps the transaction status and the parameters up to date.
//     All of the chunk is to be forwarded.
//  3. idle, busy and uncertain answer the session's questions at a boundary.
//
// A relay decodes nothing else, holds back nothing, and allocates nothing while
// queries succeed.

// relay is what is known of the conversation between one client and one backend.
type relay struct {
	up, down pgwire.Scanner // client to server, server to client
	ends     ends
	// status is the transaction status of the last ReadyForQuery.
	status byte
	// unsynced: messages of the extended protocol have gone out without a Sync.
	unsynced bool
	// executed: one of them was an Execute.
	executed bool
	// doubt: the count of expected ends may be wrong; the backend isn't reused.
	doubt bool
	// queries counts Query and Execute messages, as pgagroal_query_count does.
	queries uint64
	// transactions counts transitions into a transaction block.
	transactions uint64
	sent         uint64 // bytes, client to server
	received     uint64 // bytes, server to client
	params       *params
	// code is the SQLSTATE of the last error that says something about the
	// server itself; the session takes it away.
	code string
	// fatal: the server has said goodbye.
	fatal bool
}

// clientInterests and serverInterests are shared by all relays and never change.
var clientInterests, serverInterests = relayInterests()

func relayInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S')
	server.Set(pgwire.AtHeader, 'G', 'W')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// start begins a conversation with an idle backend.
func (r *relay) start(p *params, client, server *pgwire.Interests) {
	r.up = pgwire.NewScanner(client)
	r.down = pgwire.NewScanner(server)
	r.status = pgwire.TxIdle
	r.params = p
}

// clientBytes returns how much of b goes to the server. leaving says that the
// client has said goodbye; the Terminate itself isn't forwarded.
func (r *relay) clientBytes(b []byte) (n int, leaving bool, err error) {
	var ev pgwire.Event
	for pos := 0; ; {
		pos, err = r.up.Next(b, pos, &ev)
		if err != nil {
			r.doubt = true
			return 0, false, err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		switch ev.Type {
		case 'Q':
			r.queries++
			r.ends.push(endQuery)
		case 'S':
			r.ends.push(endSync)
			r.unsynced, r.executed = false, false
		case 'E':
			r.queries++
			r.unsynced, r.executed = true, true
		case 'F':
			r.ends.push(endQuery)
		case 'X':
			r.goodbye()
			return max(ev.Start, 0), true, nil
		default:
			r.unsynced = true
		}
	}
	// The first byte of a Terminate whose header is split is a Terminate.
	if k := r.up.SplitHeader(); k > 0 && k <= len(b) && b[len(b)-k] == 'X' {
		r.goodbye()
		return len(b) - k, true, nil
	}
	r.sent += uint64(len(b))
	return len(b), false, nil
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
		s.relay = &relay{}
	}
	if s.tx != nil {
		s.relay.up = pgwire.NewScanner(pooledClient)
		s.tx.relay = s.relay
	}
}

// giveRelay takes the relay back from a session between transactions: it is most
// of what a client costs. One who is in the middle of a message keeps it.
func (s *session) giveRelay() {
	if s.relay.up.AtBoundary() {
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
		*r = relay{}
		w.relays = append(w.relays, r)
	}
	s.relay = nil
	if s.tx != nil {
		s.tx.relay = nil
	}
}

// goodbye: what went before a Terminate was complete, and nothing counts after it.
func (r *relay) goodbye() { r.up = pgwire.NewScanner(clientInterests) }

// serverBytes takes note of what the server says.
func (r *relay) serverBytes(b []byte) error {
	var ev pgwire.Event
	for pos := 0; ; {
		var err error
		pos, err = r.down.Next(b, pos, &ev)
		if err != nil {
			r.doubt = true
			return err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		switch ev.Type {
		case 'Z':
			r.ready(ev.Status())
		case 'E':
			r.serverError(ev.Body)
		case 'S':
			r.params.status(ev.Body)
		case 'G':
			r.copyIn()
		case 'W':
			r.doubt = true // replication; never reused
		}
	}
	r.received += uint64(len(b))
	return nil
}

func (r *relay) ready(status byte) {
	if !r.ends.pop() || status == 0 {
		r.doubt = true
	}
	if status != pgwire.TxIdle && r.status == pgwire.TxIdle {
		r.transactions++
	}
	r.status = status
}

// copyIn: the server ignores every Sync that it meets in COPY mode; libpq sends
// one together with the Execute that starts the COPY, and another at its end.
func (r *relay) copyIn() {
	if r.ends.len() == 0 || r.ends.q[r.ends.head] != endSync {
		return // a COPY of a Query, or no Sync was sent yet
	}
	if r.ends.strike() > 1 || r.ends.len() > 0 {
		r.doubt = true // pipelined behind a COPY: what is answered can't be told
	}
	r.unsynced = true
}

func (r *relay) serverError(body []byte) {
	f := pgwire.ParseError(body)
	if f.Fatal() {
		r.fatal = true
	}
	switch f.Code {
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown, pgwire.CodeCannotConnectNow, pgwire.CodeReadOnlyTransaction:
		r.code = f.Code
	}
}

// idle reports whether the server has answered everything it was asked.
func (r *relay) idle() bool {
	return r.ends.len() == 0 && !r.unsynced && !r.doubt && !r.fatal && r.up.AtBoundary() && r.down.AtBoundary()
}

// uncertain reports whether something that wasn't answered may have ended a
// transaction: the client can't know whether its work was committed.
func (r *relay) uncertain() bool {
	return r.ends.len() > 0 || r.executed || r.doubt || !r.up.AtBoundary()
}

// trim gives memory back that only a busy conversation needs.
func (r *relay) trim() {
	r.up.Trim()
	r.down.Trim()
	r.ends.trim()
}
