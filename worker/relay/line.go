package relay

import "github.com/pgagroal-go/pgagroal/internal/pgwire"

// The flow of bytes on a line that passes them on unchanged (Direct):
//
//  1. clientBytes reads a chunk from the client. It notes what the server must
//     answer, and returns how much of the chunk to forward.
//  2. serverBytes reads a chunk from the server. It strikes out what the server has
//     answered, and keeps transaction status and parameters up to date. The caller
//     forwards the whole chunk.
//  3. idle and uncertain tell where the conversation stands.
//
// A line decodes nothing else, holds nothing back, and allocates nothing while
// queries succeed.

// line is the state of the conversation between one client and one backend. Pooled
// counts owed answers in an exchange instead and has its own flow (rewrite.go);
// there ends stays empty, unsynced and executed stay false.
type line struct {
	up, down pgwire.Scanner // client to server, server to client
	b        *Backend
	totals   *Totals
	ends     ends
	// unsynced: the client has sent messages of the extended protocol without a Sync.
	unsynced bool
	// executed: one of them was an Execute.
	executed bool
	// doubt: the count of expected ends may be wrong, so the backend must not be reused.
	doubt bool
	// fatal: the server has sent a FATAL error and will close.
	fatal bool
	// keep is what is known of a kept session, nil for any other.
	keep *keeping
}

// clientInterests and serverInterests are shared by all lines and never change.
var clientInterests, serverInterests = lineInterests()

func lineInterests() (client, server *pgwire.Interests) {
	client, server = new(pgwire.Interests), new(pgwire.Interests)
	client.Set(pgwire.AtHeader, 'Q', 'F', 'S', 'P', 'B', 'D', 'E', 'C', 'H', 'X')
	client.RefuseOthers(pgwire.FrontendTypes)
	server.Set(pgwire.WithBody, 'Z', 'E', 'S')
	server.Set(pgwire.AtHeader, 'C', 's', 'I', 'G', 'W')
	server.RefuseOthers(pgwire.BackendTypes)
	return client, server
}

// start begins a conversation with a backend that owes nothing. It sets Status to idle;
// a caller whose backend is in a transaction block sets Status afterwards.
func (r *line) start(t *Totals, b *Backend, client, server *pgwire.Interests) {
	*r = line{up: pgwire.NewScanner(client), down: pgwire.NewScanner(server), b: b, totals: t}
	b.Status = pgwire.TxIdle
}

// clientBytes returns how many bytes of b go to the server. leaving reports that the
// client has sent a Terminate, which is not forwarded.
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
	// A chunk may end inside the header of a Terminate; its first byte tells.
	if k := r.up.SplitHeader(); k > 0 && k <= len(b) && b[len(b)-k] == 'X' {
		r.goodbye()
		return len(b) - k, true, nil
	}
	r.totals.Sent += uint64(len(b))
	return len(b), false, nil
}

// goodbye puts the scanner at a boundary: everything before a Terminate was
// complete, and nothing after it matters.
func (r *line) goodbye() { r.up = pgwire.NewScanner(clientInterests) }

// serverBytes reads a chunk from the server.
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
			r.b.reported(ev.Body)
		case 'C', 's', 'I':
			r.executeEnds()
		case 'G':
			r.copyIn()
		case 'W':
			r.doubt = true // replication: never reuse the backend
		}
	}
	r.totals.Received += uint64(len(b))
	return nil
}

// executeEnds counts the end of an Execute. Only the server's answer counts: a client can
// send further Executes behind a statement that hangs. A Query is one step, however many
// statements it has.
func (r *line) executeEnds() {
	if r.ends.len() == 0 || r.ends.q[r.ends.head] == endSync {
		r.b.Steps++
	}
}

func (r *line) ready(status byte) {
	if !r.ends.pop() || status == 0 {
		r.doubt = true
	}
	if status != pgwire.TxIdle && r.b.Status == pgwire.TxIdle {
		r.totals.Transactions++
	}
	r.b.Status = status
	r.b.Steps++
}

// copyIn strikes out the Syncs that the server will ignore, as it does in COPY mode:
// libpq sends one together with the Execute that starts the COPY, and another at the
// end of the data.
func (r *line) copyIn() {
	if r.ends.len() == 0 || r.ends.q[r.ends.head] != endSync {
		return // a COPY of a Query, or no Sync was sent yet
	}
	if r.ends.strike() > 1 || r.ends.len() > 0 {
		r.doubt = true // more was pipelined behind the COPY; its answers can't be told apart
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

// idle reports whether the server has answered everything, and nobody is inside a
// message.
func (r *line) idle() bool {
	return r.ends.len() == 0 && !r.unsynced && !r.doubt && !r.fatal && r.up.AtBoundary() && r.down.AtBoundary()
}

// uncertain reports whether an unanswered message may have ended a transaction; then
// the client can't know whether its work was committed.
func (r *line) uncertain() bool {
	return r.ends.len() > 0 || r.executed || r.doubt || !r.up.AtBoundary()
}

// trim frees memory that only a busy conversation needs.
func (r *line) trim() {
	r.up.Trim()
	r.down.Trim()
	r.ends.trim()
}
