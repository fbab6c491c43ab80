package reactor

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	stressPairs  = 12
	stressBytes  = 1 << 20 // each way
	stressRounds = 4
)

// pipe relays between two connections, as a session does.
type pipe struct {
	r     *rig
	rnd   *rand.Rand
	ends  [2]*pipeEnd
	over  bool // closed by this side, so no call of the Handler may follow
	doom  int  // after how many bytes it is closed, 0 for never
	abort bool
	brake *brake
}

// brake holds ends back until a little later, mostly within the same turn.
type brake struct{ held []*pipeEnd }

func (k *brake) step(e *pipeEnd) {
	if e.p.rnd.IntN(2) == 0 {
		e.held = paused
		e.update()
		k.held = append(k.held, e)
	}
	for len(k.held) > e.p.rnd.IntN(4) {
		e := k.held[0]
		k.held = k.held[1:]
		e.held = armed
		e.update()
	}
}

type pipeEnd struct {
	p     *pipe
	c     *Conn
	other *pipeEnd
	full  bool      // the other side's queue is full
	held  receiving // state in which the test holds it
	ended bool
}

func (e *pipeEnd) Received(b []byte) {
	if e.p.over {
		e.p.r.t.Error("bytes after Close")
		return
	}
	e.other.c.Send(b)
	if e.other.c.Full() {
		e.full = true
	}
	e.update()
	e.p.brake.step(e)
	if e.p.doom > 0 {
		if e.p.doom -= len(b); e.p.doom <= 0 {
			e.p.close()
		}
	}
}

func (e *pipeEnd) Flushed() {
	if e.p.over {
		e.p.r.t.Error("Flushed after Close")
		return
	}
	e.other.full = false
	e.other.update()
	if e.other.ended && e.c.Queued() == 0 {
		e.c.CloseWrite()
	}
}

func (e *pipeEnd) Ended(err error) {
	switch {
	case e.p.over || e.ended:
		e.p.r.t.Error("Ended after Close or Ended")
	case err != nil && e.p.doom == 0:
		e.p.r.t.Errorf("orderly end told as %v", err)
	}
	e.ended = true
	if e.other.c.Queued() == 0 {
		e.other.c.CloseWrite()
	}
}

func (e *pipeEnd) update() {
	switch {
	case e.p.over || e.ended:
	case e.full:
		e.c.Pause()
	case e.held == watching && e.p.doom == 0:
		e.c.Pause() // a watched connection would report the end before its last bytes
	case e.held == watching:
		e.c.Watch()
	case e.held == paused:
		e.c.Pause()
	default:
		e.c.Resume()
	}
}

func (p *pipe) close() {
	if p.over {
		return
	}
	p.over = true
	for _, e := range p.ends {
		if p.abort {
			e.c.Abort()
		} else {
			e.c.Close()
		}
	}
}

// disturb holds and releases the two sides at random until the pipe is over.
func (p *pipe) disturb() {
	if p.over {
		return
	}
	for _, e := range p.ends {
		for range 1 + p.rnd.IntN(3) {
			e.held = receiving(p.rnd.IntN(3))
			e.update()
		}
	}
	p.r.loop.After(time.Duration(1+p.rnd.IntN(3))*time.Millisecond, func() {
		for _, e := range p.ends {
			e.held = armed
			e.update()
		}
		p.r.loop.After(time.Duration(p.rnd.IntN(3))*time.Millisecond, p.disturb)
	})
}

func stressByte(seed, i int) byte { return byte(seed + i + i>>8 + i>>16) }

// flood writes a stream that differs from all others, and ends it.
func flood(c *net.UnixConn, seed int) {
	b := make([]byte, 30_000)
	for at := 0; at < stressBytes; {
		n := min(len(b), stressBytes-at)
		for i := range n {
			b[i] = stressByte(seed, at+i)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		at += n
	}
	_ = c.CloseWrite()
}

// drain reads to the end and returns how much of the stream arrived.
func drain(t testing.TB, c *net.UnixConn, seed int) (int, error) {
	b, got := make([]byte, 50_000), 0
	for {
		n, err := c.Read(b)
		for i := range n {
			if b[i] != stressByte(seed, got+i) {
				t.Errorf("byte %d of stream %d is wrong", got+i, seed)
				return got, io.ErrUnexpectedEOF
			}
		}
		got += n
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// peerOf returns a connection of the loop and its peer.
func (r *rig) peerOf(h Handler) (*Conn, *net.UnixConn) {
	c, fd := r.pair(h)
	f := os.NewFile(uintptr(fd), "peer")
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(6 * generous))
	return c, nc.(*net.UnixConn)
}

// pipe runs one pipe to its end and returns how much arrived in each direction.
func (r *rig) pipe(k *brake, seed int, doom int, abort bool) [2]int {
	p := &pipe{r: r, rnd: rand.New(rand.NewPCG(1, uint64(seed))), brake: k, doom: doom, abort: abort}
	p.ends[0], p.ends[1] = &pipeEnd{p: p}, &pipeEnd{p: p}
	p.ends[0].other, p.ends[1].other = p.ends[1], p.ends[0]
	var peers [2]*net.UnixConn
	for i, e := range p.ends {
		e.c, peers[i] = r.peerOf(e)
		defer peers[i].Close()
	}
	r.do(p.disturb)
	var got [2]int
	var all sync.WaitGroup
	for i := range peers {
		all.Go(func() { flood(peers[i], 2*seed+i) })
		all.Go(func() {
			n, err := drain(r.t, peers[1-i], 2*seed+i)
			if err != nil && doom == 0 {
				r.t.Errorf("stream %d ended with %v", seed, err)
			}
			got[i] = n
		})
	}
	all.Wait()
	r.do(p.close)
	return got
}

func TestEverythingArrivesInOrderWhateverIsHeldAndClosed(t *testing.T) {
	both(t, testEverythingArrivesInOrderWhateverIsHeldAndClosed)
}

func testEverythingArrivesInOrderWhateverIsHeldAndClosed(t *testing.T, kind string) {
	r := newRig(t, kind)
	var all sync.WaitGroup
	var cut atomic.Int32
	var k brake
	for n := range stressPairs {
		all.Go(func() {
			for round := range stressRounds {
				seed := 100*n + round
				doom := 0
				if n%2 == 1 {
					doom = 1 + seed*7919%(2*stressBytes)
				}
				got := r.pipe(&k, seed, doom, n%4 == 1)
				switch {
				case doom == 0 && got != [2]int{stressBytes, stressBytes}:
					t.Errorf("of pipe %d came %v bytes", seed, got)
				case doom != 0 && got != [2]int{stressBytes, stressBytes}:
					cut.Add(1)
				}
			}
		})
	}
	all.Wait()
	if cut.Load() == 0 {
		t.Error("no pipe was cut: the test tests half of what it should")
	}
	r.do(func() { // closing ends with the next turn of the loop
		r.loop.After(time.Millisecond, func() {})
	})
	u, ok := r.loop.drv.(*uring)
	if !ok {
		return
	}
	limit := time.Now().Add(generous)
	for left := -1; left != 0 && !t.Failed(); {
		r.do(func() {
			left = len(u.conns) - len(u.free) + smallCount - len(u.slots.small) + (1+len(u.slots.more))*slotCount - len(u.slots.large) + bufferCount - u.bufs.free
		})
		if time.Now().After(limit) {
			t.Errorf("%d connections, slots and buffers were never given back", left)
		}
	}
}
