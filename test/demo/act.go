package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// before is how many rows are written before the kill, after how many once the standby
// is attached again; failoverLimit is how long the demo waits for the failover.
const (
	before        = 400
	after         = 400
	failoverLimit = 40 * time.Second
)

// act is the kill of the primary and what follows.
type act struct {
	*stage
	load *load
	kill time.Time

	mu         sync.Mutex
	hinted     bool
	primary    string    // by pgagroal's log, once clients are let in
	open       time.Time // when clients were let in
	firstWrite time.Time // the first write acknowledged after open
	notified   bool
	attached   time.Time
	moments    []moment // what say has told
}

func newAct(s *stage) *act { return &act{stage: s, load: newLoad(s.client())} }

// play kills the primary under load and returns when the failover is complete and the
// standby is attached again.
func (a *act) play(ctx context.Context) error {
	if err := a.query(ctx, "CREATE TABLE orders (writer int, n int, PRIMARY KEY (writer, n))"); err != nil {
		return err
	}
	a.load.onAck = a.onAck
	a.load.start(ctx)
	if err := a.written(ctx, before); err != nil {
		return err
	}
	fmt.Printf("\n%d writers and %d readers are at work, %d rows written so far. Now the primary's host dies.\n\n", writers, readers, a.load.acks())
	a.kill = time.Now()
	a.mu.Lock()
	a.say(a.kill, "kill -9: all processes of n1, the primary")
	a.mu.Unlock()
	a.log.listen(a.onEntry)
	if err := a.cluster.Nodes[0].Kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, failoverLimit)
	defer cancel()
	if err := until(ctx, "a write to a new primary", a.hasWritten); err != nil {
		return err
	}
	if err := a.awaitStandby(ctx); err != nil {
		return err
	}
	if err := until(ctx, "the end of the notify script", a.hasNotified); err != nil {
		return err
	}
	return a.written(ctx, after)
}

// query runs one statement over a connection of its own through pgagroal.
func (a *act) query(ctx context.Context, sql string) error {
	c, err := pgtest.Connect(ctx, a.client())
	if err != nil {
		return fmt.Errorf("connect through pgagroal: %w", err)
	}
	_, err = c.Query(ctx, sql)
	return errors.Join(err, c.Close())
}

// written returns when so many more rows were acknowledged.
func (a *act) written(ctx context.Context, more int) error {
	target := a.load.acks() + more
	return until(ctx, "writes", func() error {
		if n := a.load.acks(); n < target {
			return fmt.Errorf("%d rows of %d are written", n, target)
		}
		return nil
	})
}

// say prints a line of the timeline. The caller holds the lock.
func (a *act) say(at time.Time, text string) {
	m := moment{max(0, at.Sub(a.kill)), text}
	a.moments = append(a.moments, m)
	fmt.Printf("%+8.3f s  %s\n", m.at.Seconds(), text)
}

// onEntry is called by the follower.
func (a *act) onEntry(e entry) {
	if e.message == "failover phase" && e.fields["new"] == "running" {
		// The status is read while the script runs, as scripts themselves may do.
		a.sayCandidates(e)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case e.message == "hint" && !a.hinted:
		a.hinted = true
		a.say(e.at, strings.TrimSpace("first sign: worker "+e.fields["worker"]+" saw "+e.fields["kind"]+" from "+e.fields["server"]+" "+e.fields["code"]))
	case e.message == "failover complete":
		a.primary, a.open = e.fields["primary"], time.Now()
	case e.message == "script has ended" && e.fields["hook"] == "notify":
		a.notified = true
	}
	if text := tell(e); text != "" {
		a.say(e.at, text)
	}
}

// sayCandidates tells which standby was chosen, and the positions of all standbys.
func (a *act) sayCandidates(e entry) {
	var status struct {
		Servers []struct{ Server, LSN string }
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	text := tell(e)
	if err := a.ask(ctx, &status, "failover", "status"); err != nil {
		text += " (" + err.Error() + ")"
	}
	for _, s := range status.Servers {
		if s.LSN != "" {
			text += ", " + s.Server + " is at " + s.LSN
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.say(e.at, text)
}

// onAck is called by a writer.
func (a *act) onAck(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.primary != "" && a.firstWrite.IsZero() {
		a.firstWrite = at
		a.say(at, "first write acknowledged by "+a.primary)
	}
}

func (a *act) hasWritten() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.firstWrite.IsZero() {
		return fmt.Errorf("no standby so far; pgagroal's new primary: %q", a.primary)
	}
	return nil
}

func (a *act) hasNotified() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.notified {
		return errors.New("it still runs, or it was never started")
	}
	return nil
}

// awaitStandby returns when the remaining standby streams from the new primary.
func (a *act) awaitStandby(ctx context.Context) error {
	next, other := a.roles()
	if next == nil {
		return fmt.Errorf("%q is not a server of the demo", a.primary)
	}
	if err := other.WaitStreaming(ctx, next); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attached = time.Now()
	a.say(a.attached, other.Name+" streams from "+next.Name)
	return nil
}

// roles returns the new primary and the remaining standby.
func (a *act) roles() (next, other *pgtest.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.cluster.Nodes[1:] {
		if n.Name == a.primary {
			next = n
		} else {
			other = n
		}
	}
	return next, other
}

// intro describes the servers and pgagroal.
func (s *stage) intro() string {
	var b strings.Builder
	for i, n := range s.cluster.Nodes {
		role := "standby"
		if i == 0 {
			role = "primary"
		}
		fmt.Fprintf(&b, "  %s  port %d  %s\n", n.Name, n.Port, role)
	}
	fmt.Fprintf(&b, "  pgagroal  port %d  pipeline %s, failover on, all times at their defaults\n", s.port, s.pipeline)
	fmt.Fprintf(&b, "  everything runs as user %s in %s\n", s.user(), s.dir)
	return b.String()
}
