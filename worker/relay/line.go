package relay

import "github.com/pgagroal-go/pgagroal/internal/pgwire"

// The flow of bytes on a line, when they are passed on as they are (Direct):
//
//  1. clientBytes looks at a chunk from the client: it notes what the server
//     will have to answer, and says how much of the chunk is to be forwarded.
//  2. serverBytes looks at a chunk from the server: it strikes out what has been
//     answered, and keeps the transaction status and the parameters up to date.
//     All of the chunk is to be forwarded.
//  3. idle and uncertain tell where the conversation stands.
//
// A line decodes nothing else, holds back nothing, and allocates nothing while
// queries succeed.

// line is what is known of the conversation between one client and one backend.
// Pooled has its own accounts of what is owed (exchange), and its own flow
// (rewrite.go); ends, unsynced and executed stay empty there.
type line struct {
	up, down pgwire.Scanner // client to server, server to client
	b        *Backend
	totals   *Totals
	ends     ends
	// unsynced: messages of the extended protocol have gone out without a Sync.
	unsynced bool
	// executed: one of them was an Execute.
	executed bool
	// doubt: the count of expected ends may be wrong; the backend isn't reused.
	doubt bool
	// fatal: the server has said goodbye.
	fatal bool
}

// clientInterests and serverInterests are shared by all lines and never change.
var clientInterests, serverInterests = lineInterests()

func lineInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S')
	server.Set(pgwire.AtHeader, 'G', 'W')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// start begins a conversation with an idle backend.
func (r *line) start(t *Totals, b *Backend, client, server *pgwire.Interests) {
	*r = line{up: pgwire.NewScanner(client), down: pgwire.NewScanner(server), b: b, totals: t}
	b.Status = pgwire.TxIdle
}

// clientBytes returns how much of b goes to the server. leaving says that the
// client has said goodbye; the Terminate itself isn't forwarded.
func (r *line) clientBytes(b []byte) (n int, leaving bool, err error) {
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
			r.totals.Queries++
			r.ends.push(endQuery)
		case 'S':
			r.ends.push(endSync)
			r.unsynced, r.executed = false, false
		case 'E':
			r.totals.Queries++
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
	r.totals.Sent += uint64(len(b))
	return len(b), false, nil
}

// goodbye: what went before a Terminate was complete, and nothing counts after it.
func (r *line) goodbye() { r.up = pgwire.NewScanner(clientInterests) }

// serverBytes takes note of what the server says.
func (r *line) serverBytes(b []byte) error {
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
			r.b.Params.Reported(ev.Body)
		case 'G':
			r.copyIn()
		case 'W':
			r.doubt = true // replication; never reused
		}
	}
	r.totals.Received += uint64(len(b))
	return nil
}

func (r *line) ready(status byte) {
	if !r.ends.pop() || status == 0 {
		r.doubt = true
	}
	if status != pgwire.TxIdle && r.b.Status == pgwire.TxIdle {
		r.totals.Transactions++
	}
	r.b.Status = status
}

// copyIn: the server ignores every Sync that it meets in COPY mode; libpq sends
// one together with the Execute that starts the COPY, and another at its end.
func (r *line) copyIn() {
	if r.ends.len() == 0 || r.ends.q[r.ends.head] != endSync {
		return // a COPY of a Query, or no Sync was sent yet
	}
	if r.ends.strike() > 1 || r.ends.len() > 0 {
		r.doubt = true // pipelined behind a COPY: what is answered can't be told
	}
	r.unsynced = true
}

func (r *line) serverError(body []byte) {
	f := pgwire.ParseError(body)
	if f.Fatal() {
		r.fatal = true
	}
	switch f.Code {
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown, pgwire.CodeCannotConnectNow, pgwire.CodeReadOnlyTransaction:
		r.b.Code, r.b.Died = f.Code, f.PostmasterDied()
	}
}

// idle reports whether the server has answered everything it was asked.
func (r *line) idle() bool {
	return r.ends.len() == 0 && !r.unsynced && !r.doubt && !r.fatal && r.up.AtBoundary() && r.down.AtBoundary()
}

// uncertain reports whether something that wasn't answered may have ended a
// transaction: the client can't know whether its work was committed.
func (r *line) uncertain() bool {
	return r.ends.len() > 0 || r.executed || r.doubt || !r.up.AtBoundary()
}

// trim gives memory back that only a busy conversation needs.
func (r *line) trim() {
	r.up.Trim()
	r.down.Trim()
	r.ends.trim()
}
