package worker

// listen hears the client again, if what it says has somewhere to go: it goes to
// the backend, which may be full, or we answer ourselves, and the client may not
// read.
func (s *session) listen() {
	if !s.mustNotHear() {
		s.client.Resume()
	}
}

// throttle is the other half of listen, after something that the client has said.
func (s *session) throttle() {
	if s.mustNotHear() {
		s.client.Pause()
	}
}

func (s *session) mustNotHear() bool {
	return s.backend != nil && s.backend.conn.Full() || s.flooded || s.client.Full() && !s.talk.Keeps()
}
