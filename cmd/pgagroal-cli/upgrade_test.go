package main

import (
	"context"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// upgrading is a supervisor in an upgrade, the third of its process. Status has each state once,
// and then the last one.
type upgrading struct {
	*fake
	to     string
	states []told
}

// told is what status tells of the process: when it started, and nil before its first upgrade.
type told struct {
	started string
	upgrade *control.Upgraded
}

func (u *upgrading) Upgrade(context.Context) (control.UpgradeResponse, error) {
	return control.UpgradeResponse{From: "1", To: u.to, Next: "clients stay", Count: 3, Since: "then"}, u.called("upgrade")
}

func (u *upgrading) Status(ctx context.Context) (control.StatusResponse, error) {
	r, err := u.fake.Status(ctx)
	r.Started, r.Upgrade = u.states[0].started, u.states[0].upgrade
	if len(u.states) > 1 {
		u.states = u.states[1:]
	}
	return r, err
}

func at(started string, u control.Upgraded) told {
	u.Since = started
	return told{started, &u}
}

func TestUpgradeTellsWhatHasBecomeOfIt(t *testing.T) {
	before, done := at("then", control.Upgraded{Count: 2}), at("then", control.Upgraded{Count: 3})
	for name, c := range map[string]struct {
		states []told
		code   int
		says   string
	}{
		"done":                           {[]told{before, before, done}, control.ExitOK, "pgagroal 9.9 has taken the place of 1"},
		"failed":                         {[]told{before, at("then", control.Upgraded{Count: 2, Problem: "no memory"})}, control.ExitFailed, "no memory"},
		"restarted":                      {[]told{before, {started: "now"}}, control.ExitUnknown, "since now; it was restarted: all clients were disconnected"},
		"upgraded again after a restart": {[]told{before, at("now", control.Upgraded{Count: 3})}, control.ExitUnknown, "it was restarted"},
	} {
		t.Run(name, func(t *testing.T) {
			path := listen(t, &upgrading{fake: &fake{}, to: "9.9", states: c.states}, 0)
			got := invoke("upgrade", "--socket", path)
			if got.code != c.code || !strings.Contains(got.out+got.errors, c.says) {
				t.Errorf("%+v", got)
			}
			if done := strings.Contains(got.out, "has taken the place"); done != (c.code == control.ExitOK) {
				t.Errorf("it prints %q", got.out)
			}
		})
	}
}

func TestUpgradeThatIsNeverDoneFails(t *testing.T) {
	for name, c := range map[string]struct {
		to    string
		state told
	}{
		"count":   {"9.9", at("then", control.Upgraded{Count: 2})},
		"version": {"9.8", at("then", control.Upgraded{Count: 3})},
		"first":   {"9.8", told{started: "then"}},
	} {
		t.Run(name, func(t *testing.T) {
			sup := &upgrading{fake: &fake{}, to: c.to, states: []told{c.state}}
			p := &program{stdout: io.Discard, stderr: io.Discard}
			set := flag.NewFlagSet("", flag.ContinueOnError)
			set.String("socket", listen(t, sup, 0), "")
			r, err := sup.Upgrade(t.Context())
			if err == nil {
				err = p.takeover(cli.NewContext(p.app(), set, nil), &r, 3*takeoverPause)
			}
			if got := asExit(err); got.code != control.ExitUnknown || !strings.Contains(got.message, "version 9.9 answers") {
				t.Errorf("%v", err)
			}
			if calls := sup.seen(); !strings.Contains(calls, "status") {
				t.Errorf("it has asked %s only", calls)
			}
		})
	}
}
