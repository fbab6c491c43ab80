package listen

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Gate stops and starts the accepting goroutines. While it is closed, clients wait in the kernel's
// backlog.
type Gate struct {
	mu        sync.Mutex
	open      bool
	gone      bool          // the gate is shut forever
	changed   chan struct{} // closed at the next change
	listeners []*Listener
	acceptors int // that run
	parked    int // those of them that wait for the gate to open
	limit     int // the most that accepted may be
	accepted  int // clients that were accepted and that the loop hasn't taken yet
}

// NewGate makes a closed gate for listeners; Shut closes them. Even an open gate lets no client in
// while the loop has not taken limit clients that were accepted before.
func NewGate(listeners []*Listener, limit int) *Gate {
	return &Gate{changed: make(chan struct{}), listeners: listeners, limit: limit}
}

// Taken records that the loop has taken one client.
func (g *Gate) Taken() { g.count(-1) }

func (g *Gate) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.accepted
	g.accepted += n
	if !g.gone && was >= g.limit && g.accepted < g.limit {
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// Set opens or closes the gate. Closing wakes the goroutines that wait in accept.
func (g *Gate) Set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open == g.open || g.gone {
		return
	}
	g.open = open
	for _, l := range g.listeners {
		g.aim(l)
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// aim lets a listener wait for clients, or ends its wait.
func (g *Gate) aim(l *Listener) {
	until := longAgo
	if g.open {
		until = time.Time{}
	}
	_ = l.file.SetDeadline(until) // fails on a closed listener only, whose goroutine ends by itself
}

// longAgo is a deadline that ends a wait at once.
var longAgo = time.Unix(1, 0)

// Add puts a listener behind the gate. The caller starts its Acceptor.
func (g *Gate) Add(l *Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		l.Close()
		return
	}
	g.listeners = append(g.listeners, l)
	g.aim(l)
}

// Retire ends a listener: its Acceptor takes the clients that have connected already, and then closes it. Clients would
// see a reset if it were closed with them in its backlog.
func (g *Gate) Retire(l *Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners = slices.DeleteFunc(g.listeners, func(o *Listener) bool { return o == l })
	l.retired.Store(true)
	_ = l.file.SetDeadline(longAgo)
}

// Shut closes the listeners forever. Clients that connect from now on are refused at once, instead
// of waiting for a pgagroal that is ending.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return
	}
	g.gone = true
	close(g.changed)
	for _, l := range g.listeners {
		l.Close()
	}
}

// IsOpen reports whether clients are accepted.
func (g *Gate) IsOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open && !g.gone
}

func (g *Gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

// wait returns when the gate is open, or false when it is shut or ctx has ended.
func (g *Gate) wait(ctx context.Context) bool {
	for {
		g.mu.Lock()
		open, gone, changed := g.open && g.accepted < g.limit, g.gone, g.changed
		g.mu.Unlock()
		if gone {
			return false
		}
		if open {
			return ctx.Err() == nil
		}
		g.park(1)
		select {
		case <-changed:
		case <-ctx.Done():
		}
		g.park(-1)
		if ctx.Err() != nil {
			return false
		}
	}
}

func (g *Gate) park(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parked += n
}

// joins counts an acceptor that begins or ends.
func (g *Gate) joins(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acceptors += n
}

// Still reports whether the gate is closed, no acceptor is at work, and the loop has taken
// every client that was accepted.
func (g *Gate) Still() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.open && g.accepted == 0 && g.parked == g.acceptors
}
