package console

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
)

// room bounds how many connections there are at a time. Whoever takes the last place costs
// the connection its place that has waited longest for its next request: silent clients keep
// no health check out. Only requests that are being answered keep their places.
type room struct {
	places chan struct{} // one for each connection, and one for each listener that accepts

	mu    sync.Mutex
	quiet []*roomed // connections without a request, the one that waits longest first
}

func newRoom(places int) *room { return &room{places: make(chan struct{}, places)} }

// enter waits for a place.
func (r *room) enter() {
	select {
	case r.places <- struct{}{}:
	default:
		if x := r.quietest(); x != nil {
			x.Close() // the read of its owner fails, who closes it again
		}
		r.places <- struct{}{}
	}
}

func (r *room) quietest() *roomed {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.quiet) == 0 {
		return nil
	}
	return r.quiet[0]
}

// take gives a connection the place that enter has found. It has made no request yet.
func (r *room) take(c net.Conn) *roomed {
	x := &roomed{Conn: c}
	x.leave = sync.OnceFunc(func() {
		r.mu.Lock()
		x.gone = true
		r.mu.Unlock()
		r.setQuiet(x, false)
		<-r.places
	})
	r.setQuiet(x, true)
	return x
}

// setQuiet notes whether a connection has no request.
func (r *room) setQuiet(x *roomed, quiet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = slices.DeleteFunc(r.quiet, func(q *roomed) bool { return q == x })
	if quiet && !x.gone {
		r.quiet = append(r.quiet, x)
	}
}

// onState follows the requests of a connection for http.Server.
func (r *room) onState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		r.setQuiet(roomedOf(c), false)
	case http.StateIdle:
		r.setQuiet(roomedOf(c), true)
	}
}

// roomedOf returns the connection of the room below TLS.
func roomedOf(c net.Conn) *roomed {
	switch c := c.(type) {
	case *roomed:
		return c
	case *tls.Conn:
		return roomedOf(c.NetConn())
	case *peeked:
		return roomedOf(c.Conn)
	}
	panic("a connection that no room has accepted")
}

// bounded is a listener that accepts only if there is room.
type bounded struct {
	net.Listener
	room *room
}

// Accept waits for room and for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	b.room.enter()
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room.places
		return nil, err
	}
	return b.room.take(c), nil
}

// roomed is a connection with a place.
type roomed struct {
	net.Conn
	leave func()
	gone  bool // under the room's mutex
}

// Close closes the connection and gives its place back.
func (c *roomed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
