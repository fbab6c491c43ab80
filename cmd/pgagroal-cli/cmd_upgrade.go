package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

const (
	// takeoverLimit is how long the new version may take until it answers, and takeoverPause the
	// time between two questions whether it does.
	takeoverLimit = 30 * time.Second
	takeoverPause = 100 * time.Millisecond
)

// upgrade orders an upgrade. The version before answers that, and then executes the new one. So
// the command succeeds only when the new one answers.
func (p *program) upgrade(c *cli.Context, words []string) error {
	if len(words) > 0 {
		return usagef("upgrade takes no argument")
	}
	a, err := p.request(c, control.Upgrade, nil)
	if err != nil {
		return err
	}
	if a.Outcome.Status {
		var r control.UpgradeResponse
		if err := a.response(&r); err != nil {
			return err
		}
		if err := p.takeover(c, &r, takeoverLimit); err != nil {
			return err
		}
	}
	if err := p.print(c, a); err != nil {
		return err
	}
	return a.failure(control.Upgrade)
}

// takeover waits until the version that an upgrade has announced answers in the same process.
func (p *program) takeover(c *cli.Context, r *control.UpgradeResponse, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		time.Sleep(takeoverPause)
		done, err := p.tookOver(c, r)
		switch {
		case done:
			return err
		case time.Now().After(end):
			return unknownf("upgrade: %s has not taken the place of %s within %s: %v; the log of pgagroal says more", screen.Clean(r.To), screen.Clean(r.From), limit, err)
		}
	}
}

// tookOver asks pgagroal once. If the outcome isn't certain yet, done is false and the error says what
// was seen.
func (p *program) tookOver(c *cli.Context, r *control.UpgradeResponse) (done bool, err error) {
	a, err := p.request(c, control.Status, nil)
	if err != nil {
		return false, err // while one program takes the place of the other
	}
	if err := a.failure(control.Status); err != nil {
		return false, err
	}
	var s struct {
		ServerVersion, Started string
		Upgrade                control.Upgraded
	}
	if err := a.response(&s); err != nil {
		return false, err
	}
	switch u := &s.Upgrade; {
	case s.Started != r.Since:
		return true, unknownf("upgrade: pgagroal %s answers, in another process, since %s; it was restarted: all clients were disconnected", screen.Clean(s.ServerVersion), screen.Clean(s.Started))
	case u.Problem != "":
		return true, failedf("upgrade: %s goes on: %s", screen.Clean(s.ServerVersion), screen.Clean(u.Problem))
	case u.Count < r.Count || s.ServerVersion != r.To:
		return false, fmt.Errorf("version %s answers", screen.Clean(s.ServerVersion))
	}
	return true, nil
}
