package tlsmem

// Gate bounds how many handshakes compute at a time: a storm of new clients must not take
// every processor from the event loop. The others queue, in the order in which their input
// arrived, until Abort ends them. The handshake of a peer that has left before it was sent
// anything queues no longer: nobody would read what it computes. A handshake that waits for
// its peer is outside the gate, so a peer that stalls delays nobody. The zero value has no
// bound.
type Gate struct {
	places chan struct{} // a handshake that computes has put a value in
}

// NewGate returns a Gate that n handshakes can pass at a time.
func NewGate(n int) Gate { return Gate{make(chan struct{}, n)} }

// enter waits for a place, and returns false if the connection was aborted first, or its peer
// has left and doesn't need it. A free place is taken all the same, because the handshake then
// says what was wrong with what the peer has sent. Only the
// handshake's goroutine calls enter and leave.
func (hs *handshake) enter() bool {
	if hs.gate.places == nil || hs.inside {
		return true
	}
	select {
	case hs.gate.places <- struct{}{}:
		hs.inside = true
		return true
	default:
	}
	select {
	case hs.gate.places <- struct{}{}:
		hs.inside = true
		return true
	case <-hs.aborted:
	case <-hs.gone:
	}
	return false
}

// leave gives the place to the next handshake.
func (hs *handshake) leave() {
	if hs.inside {
		hs.inside = false
		<-hs.gate.places
	}
}
