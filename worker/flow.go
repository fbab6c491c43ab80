package worker

// listen reads from the client again, unless it must not be read.
func (s *session) listen() {
	if !s.mustNotHear() {
		s.client.Resume()
	}
}

// throttle stops reading from the client if it must not be read.
func (s *session) throttle() {
	if s.mustNotHear() {
		s.client.Pause()
	}
}

// mustNotHear reports whether the client must not be read, because a queue would grow
// without bound: that of the backend, to which its bytes go, or, in the transaction
// pipeline, that of the client itself, if it doesn't read the worker's answers. It isn't read
// either while query_timeout cancels its statement, so that the cancel request can't hit the
// next one.
func (s *session) mustNotHear() bool {
	return s.backend != nil && s.backend.conn.Full() || s.flooded || s.halted || s.client.Full() && s.talk.Answers()
}
