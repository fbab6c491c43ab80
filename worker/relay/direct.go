package relay

import "github.com/pgagroal-go/pgagroal/internal/pgwire"

// Direct is the conversation of a client that keeps its backend. Bytes are read and
// passed on unchanged.
type Direct struct {
	shared *Shared
	line   *line // nil before the first backend; afterwards with the last one
	id     uint64
	// moves: another backend may replace a lost one.
	moves bool
	// touched: the client has used its backend and may have left something there.
	touched bool
}

// Adapt implements Conversation.
func (d *Direct) Adapt(b *Backend, follow *Params) string { return adapt(follow, &b.Base, &b.Params) }

// Restore implements Conversation. All other parameters that the client asked for are of
// the backend's own login.
func (d *Direct) Restore(b *Backend, follow *Params) string {
	return b.restore(func(i int) (string, bool) { return follow.Get(tracked[i]) })
}

// InFailedBlock implements Conversation.
func (d *Direct) InFailedBlock() bool { return false }

// Start implements Conversation. If the client has moved, it is told of the parameters
// that differ from those of its last backend.
func (d *Direct) Start(b *Backend, status byte) (told []byte) {
	if d.line == nil {
		d.line = d.shared.take()
	} else {
		told = b.Params.appendNews(nil, &d.line.b.Params)
	}
	d.line.start(&d.shared.Totals, b, clientInterests, serverInterests)
	b.Status, b.resets = status, false
	return told
}

// FromClient implements Conversation.
func (d *Direct) FromClient(chunk []byte) (Passed, error) {
	n, leaving, err := d.line.clientBytes(chunk)
	d.touched = d.touched || n > 0
	return Passed{ToServer: chunk[:n], Leaving: leaving}, err
}

// FromServer implements Conversation.
func (d *Direct) FromServer(chunk []byte) (Passed, error) {
	if err := d.line.serverBytes(chunk); err != nil {
		return Passed{}, err
	}
	stand := d.Stand()
	if stand != Busy {
		d.line.trim()
	}
	return Passed{ToClient: chunk, Stand: stand}, nil
}

// Stand implements Conversation.
func (d *Direct) Stand() Stand {
	switch {
	case !d.line.idle():
		return Busy
	case d.line.b.Status != pgwire.TxIdle:
		return InBlock
	}
	return Resting
}

// Load implements Conversation. Between an Execute and its Sync a statement counts as running,
// because what Direct reads doesn't show the end of it.
func (d *Direct) Load() Load {
	switch l := d.line; {
	case l == nil:
		return Nothing
	case l.doubt || l.fatal:
		return Unclear
	case l.ends.len() > 0 || l.executed:
		return Statement
	case l.b.Status != pgwire.TxIdle:
		return Transaction
	}
	return Nothing
}

// Part implements Conversation.
func (d *Direct) Part() []byte {
	if d.touched {
		d.line.b.Dirty, d.line.b.DirtyBy = true, d.id
	}
	return nil
}

// Lose implements Conversation. A client that hasn't used its backend loses nothing.
func (d *Direct) Lose() Loss {
	switch l := d.line; {
	case l.fatal:
		return Loss{Fate: Told}
	case d.moves && !d.touched && !l.doubt && l.up.AtBoundary() && l.down.AtBoundary():
		return Loss{Fate: Waits}
	}
	return Loss{Fate: Ends}
}

// Refuse implements Conversation.
func (d *Direct) Refuse(_, _ []byte) (Passed, bool, error) { return Passed{}, false, nil }

// Cancel implements Conversation. A client that keeps its backend says nothing before it
// has one.
func (d *Direct) Cancel(said []byte) (Passed, error) { return Passed{ToServer: said}, nil }

// Keeps implements Conversation.
func (d *Direct) Keeps() bool { return true }

// Answers implements Conversation.
func (d *Direct) Answers() bool { return false }

// Uncertain implements Conversation.
func (d *Direct) Uncertain() bool { return d.line != nil && d.line.uncertain() }

// Finishes implements Conversation.
func (d *Direct) Finishes() bool {
	l := d.line
	return l != nil && !l.doubt && !l.unsynced && l.up.AtBoundary()
}

// MidMessage implements Conversation.
func (d *Direct) MidMessage() bool { return d.line != nil && !d.line.down.AtBoundary() }

// End implements Conversation.
func (d *Direct) End() {
	d.shared.give(d.line)
	d.line = nil
}
