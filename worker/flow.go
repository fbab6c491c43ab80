package worker

// listen reads from the client again, if its bytes have somewhere to go.
func (s *session) listen() {
	if !s.mustNotHear() {
		s.client.Resume()
	}
}

// throttle stops reading from the client, if its bytes have nowhere to go.
func (s *session) throttle() {
	if s.mustNotHear() {
		s.client.Pause()
	}
}

// mustNotHear reports whether the client must not be read: its bytes go to the
// backend, whose queue may be full, or, in the transaction pipeline, are answered by the
// worker, and the client may not read the answers.
func (s *session) mustNotHear() bool {
	return s.backend != nil && s.backend.conn.Full() || s.flooded || s.client.Full() && !s.talk.Keeps()
}
