package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
)

const (
	// stormRate and scramRate are how many clients come in a second.
	stormRate = 200
	scramRate = 1000
	// mostWaiting is how many clients may be under way: a pooler that lets more come
	// together doesn't keep up.
	mostWaiting = 1000
)

// measureLogins returns how many clients can log in for a second of the pooler's processor
// time, and in a second. configs makes the configuration of one client.
func measureLogins(configs func() *tls.Config) func(context.Context, *rig, workload, *pooler) (map[string]float64, error) {
	return func(ctx context.Context, r *rig, w workload, p *pooler) (map[string]float64, error) {
		kept := make([]*tls.Config, w.clients)
		for i := range kept {
			kept[i] = configs()
			if err := logInAndLeave(ctx, p, w, kept[i], true); err != nil { // which brings a ticket
				return nil, err
			}
		}
		if _, err := repeatLogins(ctx, r.warmup, p, w, kept); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
		var n int64
		start := time.Now()
		spent, err := p.during(func() (err error) {
			n, err = repeatLogins(ctx, r.duration, p, w, kept)
			return err
		})
		if err != nil {
			return nil, err
		}
		return map[string]float64{perCPU: float64(n) / spent.Seconds(), rate: float64(n) / time.Since(start).Seconds()}, nil
	}
}

// repeatLogins has clients log in for some time, one after the other with each
// configuration, and returns how many did.
func repeatLogins(ctx context.Context, d time.Duration, p *pooler, w workload, configs []*tls.Config) (int64, error) {
	end := time.Now().Add(d)
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, len(configs))
	for i, c := range configs {
		wg.Go(func() {
			for time.Now().Before(end) && errs[i] == nil {
				errs[i] = logInAndLeave(ctx, p, w, c, false)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load(), errors.Join(errs...)
}

// logInAndLeave is one short client. Unless it is the first with this configuration, its
// session must be resumed if the configuration keeps tickets, and not otherwise.
func logInAndLeave(ctx context.Context, p *pooler, w workload, config *tls.Config, first bool) error {
	c, err := login(ctx, p.addr(), w.user(), config)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	resumed := c.conn.(*tls.Conn).ConnectionState().DidResume
	if want := !first && config.ClientSessionCache != nil; resumed != want {
		err = fmt.Errorf("a session was resumed: %v, want %v", resumed, want)
	}
	return errors.Join(err, c.leave())
}

// leave says goodbye before it closes the connection.
func (c *idler) leave() error {
	_, err := c.conn.Write(message('X', ""))
	if t, ok := c.conn.(*tls.Conn); ok {
		return errors.Join(err, t.NetConn().Close()) // without close_notify, for which no pooler waits after Terminate
	}
	return errors.Join(err, c.close())
}

// arrivals are clients that come at a fixed rate, however long each takes.
type arrivals struct {
	visit func() error
	every time.Duration

	waiting atomic.Int64
	wg      sync.WaitGroup
	mu      sync.Mutex
	took    []int // microseconds, of each client, with mu
	err     error // the first one, with mu
}

// come lets clients come until ctx ends, waits for the last of them, and returns the first
// error.
func (a *arrivals) come(ctx context.Context) error {
	for next := time.Now(); ctx.Err() == nil; next = next.Add(a.every) {
		if err := pause(ctx, time.Until(next)); err != nil {
			break
		}
		if a.waiting.Add(1) > mostWaiting {
			a.note(0, fmt.Errorf("%d clients wait at the same time", mostWaiting))
			break
		}
		a.wg.Add(1)
		go a.one(next) // ends with the client's time limit
	}
	a.wg.Wait()
	return a.err
}

// one is one client. Its time begins when it should have come, so that a client that came
// late, because everything stood still, counts as one that waited.
func (a *arrivals) one(due time.Time) {
	defer a.wg.Done()
	defer a.waiting.Add(-1)
	err := a.visit()
	a.note(time.Since(due), err)
}

func (a *arrivals) note(d time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.took = append(a.took, int(d.Microseconds()))
}

// measureStorm runs pgbench while clients come that only shake hands.
func measureStorm(ctx context.Context, r *rig, w workload, p *pooler) (map[string]float64, error) {
	config := clientTLS(tls.VersionTLS13, false)
	storm := &arrivals{every: time.Second / stormRate, visit: func() error { return shakeHands(ctx, p.addr(), config) }}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	start, ended := time.Now(), make(chan error, 1)
	go func() { ended <- storm.come(inner) }() // ends with inner
	values, err := r.measureLoad(ctx, w, p)
	passed := time.Since(start)
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	delete(values, cpu) // of queries and handshakes together
	values[rate] = float64(len(storm.took)) / passed.Seconds()
	return values, nil
}

// shakeHands connects, makes the connection an encrypted one, and leaves.
func shakeHands(ctx context.Context, addr string, config *tls.Config) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	_, err = encrypt(conn, config)
	return errors.Join(err, conn.Close())
}

// measureScram lets clients come at a rate that leaves the processors half idle. If no
// client waits for another one, the slowest logins are not much slower than the others.
func measureScram(ctx context.Context, r *rig, w workload, p *pooler) (map[string]float64, error) {
	keys := auth.NewClientKeys(1)
	visit := func() error { return logInWithPassword(ctx, p.addr(), w.user(), keys) }
	if _, err := comeFor(ctx, max(r.warmup, time.Second), time.Second/scramRate, visit); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	var took []int
	start := time.Now()
	spent, err := p.during(func() (err error) {
		took, err = comeFor(ctx, r.duration, time.Second/scramRate, visit)
		return err
	})
	if err != nil {
		return nil, err
	}
	n := float64(len(took))
	return map[string]float64{
		rate: n / time.Since(start).Seconds(), cpu: spent.Seconds() * 1e6 / n,
		p50: float64(percentile(took, 0.50)) / 1e3, p99: float64(percentile(took, 0.99)) / 1e3,
	}, nil
}

// comeFor lets clients come for some time, and returns how long each took, in microseconds.
func comeFor(ctx context.Context, d, every time.Duration, visit func() error) ([]int, error) {
	a := &arrivals{every: every, visit: visit}
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	err := a.come(ctx)
	return a.took, err
}

// logInWithPassword is a short client with a password, whose keys it derives only once.
func logInWithPassword(ctx context.Context, addr, user string, keys *auth.ClientKeys) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	c := &idler{conn: conn}
	_, err = conn.Write(startup(user))
	if err == nil {
		_, err = auth.Login(conn, auth.Plain{User: user, Secret: password, Cache: keys}, auth.LoginOptions{})
	}
	if err == nil {
		err = c.awaitReady()
	}
	if err != nil {
		return errors.Join(err, c.close())
	}
	return c.leave()
}
