package relay

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

// Relay is what is known of the conversation between one client and one backend.
type Relay struct {
	Up, Down pgwire.Scanner // client to server, server to client
	ends     ends
	// Status is the transaction status of the last ReadyForQuery.
	Status byte
	// Unsynced: messages of the extended protocol have gone out without a Sync.
	Unsynced bool
	// executed: one of them was an Execute.
	executed bool
	// Doubt: the count of expected ends may be wrong; the backend isn't reused.
	Doubt bool
	// Queries counts Query and Execute messages, as pgagroal_query_count does.
	Queries uint64
	// Transactions counts transitions into a transaction block.
	Transactions uint64
	Sent         uint64 // bytes, client to server
	Received     uint64 // bytes, server to client
	Params       *Params
	// Code is the SQLSTATE of the last error that says something about the
	// server itself; the session takes it away.
	Code string
	// Fatal: the server has said goodbye.
	Fatal bool
}

// ClientInterests and serverInterests are shared by all relays and never change.
var ClientInterests, ServerInterests = relayInterests()

func relayInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S')
	server.Set(pgwire.AtHeader, 'G', 'W')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// Start begins a conversation with an idle backend.
func (r *Relay) Start(p *Params, client, server *pgwire.Interests) {
	r.Up = pgwire.NewScanner(client)
	r.Down = pgwire.NewScanner(server)
	r.Status = pgwire.TxIdle
	r.Params = p
}

// ClientBytes returns how much of b goes to the server. leaving says that the
// client has said goodbye; the Terminate itself isn't forwarded.
func (r *Relay) ClientBytes(b []byte) (n int, leaving bool, err error) {
	var ev pgwire.Event
	for pos := 0; ; {
		pos, err = r.Up.Next(b, pos, &ev)
		if err != nil {
			r.Doubt = true
			return 0, false, err
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		switch ev.Type {
		case 'Q':
			r.Queries++
			r.ends.push(endQuery)
		case 'S':
			r.ends.push(endSync)
			r.Unsynced, r.executed = false, false
		case 'E':
			r.Queries++
			r.Unsynced, r.executed = true, true
		case 'F':
			r.ends.push(endQuery)
		case 'X':
			r.goodbye()
			return max(ev.Start, 0), true, nil
		default:
			r.Unsynced = true
		}
	}
	// The first byte of a Terminate whose header is split is a Terminate.
	if k := r.Up.SplitHeader(); k > 0 && k <= len(b) && b[len(b)-k] == 'X' {
		r.goodbye()
		return len(b) - k, true, nil
	}
	r.Sent += uint64(len(b))
	return len(b), false, nil
}

// goodbye: what went before a Terminate was complete, and nothing counts after it.
func (r *Relay) goodbye() { r.Up = pgwire.NewScanner(ClientInterests) }

// ServerBytes takes note of what the server says.
func (r *Relay) ServerBytes(b []byte) error {
	var ev pgwire.Event
	for pos := 0; ; {
		var err error
		pos, err = r.Down.Next(b, pos, &ev)
		if err != nil {
			r.Doubt = true
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
			r.Params.Status(ev.Body)
		case 'G':
			r.copyIn()
		case 'W':
			r.Doubt = true // replication; never reused
		}
	}
	r.Received += uint64(len(b))
	return nil
}

func (r *Relay) ready(status byte) {
	if !r.ends.pop() || status == 0 {
		r.Doubt = true
	}
	if status != pgwire.TxIdle && r.Status == pgwire.TxIdle {
		r.Transactions++
	}
	r.Status = status
}

// copyIn: the server ignores every Sync that it meets in COPY mode; libpq sends
// one together with the Execute that starts the COPY, and another at its end.
func (r *Relay) copyIn() {
	if r.ends.len() == 0 || r.ends.q[r.ends.head] != endSync {
		return // a COPY of a Query, or no Sync was sent yet
	}
	if r.ends.strike() > 1 || r.ends.len() > 0 {
		r.Doubt = true // pipelined behind a COPY: what is answered can't be told
	}
	r.Unsynced = true
}

func (r *Relay) serverError(body []byte) {
	f := pgwire.ParseError(body)
	if f.Fatal() {
		r.Fatal = true
	}
	switch f.Code {
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown, pgwire.CodeCannotConnectNow, pgwire.CodeReadOnlyTransaction:
		r.Code = f.Code
	}
}

// Idle reports whether the server has answered everything it was asked.
func (r *Relay) Idle() bool {
	return r.ends.len() == 0 && !r.Unsynced && !r.Doubt && !r.Fatal && r.Up.AtBoundary() && r.Down.AtBoundary()
}

// Uncertain reports whether something that wasn't answered may have ended a
// transaction: the client can't know whether its work was committed.
func (r *Relay) Uncertain() bool {
	return r.ends.len() > 0 || r.executed || r.Doubt || !r.Up.AtBoundary()
}

// Trim gives memory back that only a busy conversation needs.
func (r *Relay) Trim() {
	r.Up.Trim()
	r.Down.Trim()
	r.ends.trim()
}
