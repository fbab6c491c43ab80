package worker

// maxOwed is how many answers a server may owe a client of the transaction
// pipeline before the client isn't listened to any more: each is noted here, and a
// message that is answered may have five bytes, of which the kernel holds millions.
// A server keeps answers back until a Sync or until it has 8 kB of them, which are
// 1600 of the shortest; so it has always sent some before there are that many, and
// the client is listened to again.
const maxOwed = 8192

// flooded reports whether the client is owed as much as it may be.
func (p *pooled) flooded() bool { return p != nil && p.x != nil && p.x.len() > maxOwed }

// listen hears the client again, if what it says has somewhere to go: it goes to
// the backend, which may be full, or we answer ourselves, and the client may not
// read.
func (s *session) listen() {
	if s.backend != nil && s.backend.conn.Full() || s.tx.flooded() || s.tx != nil && s.client.Full() {
		return
	}
	s.client.Resume()
}

// throttle is the other half of listen, after something that the client has said.
func (s *session) throttle() {
	if s.backend.conn.Full() || s.tx.flooded() || s.tx != nil && s.client.Full() {
		s.client.Pause()
	}
}
