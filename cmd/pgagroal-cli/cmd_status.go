package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func (p *program) statusCommands() []*cli.Command {
	return []*cli.Command{
		command("ping", "", "tell whether pgagroal answers and which servers can be reached", p.ping),
		command("status", "[details]", "tell the state of pgagroal, its servers and connections", p.status),
	}
}

func (p *program) ping(c *cli.Context, words []string) error {
	if len(words) > 0 {
		return usagef("ping takes no argument")
	}
	a, err := p.do(c, control.Ping, nil)
	if err != nil {
		return err
	}
	var r control.PingResponse
	if err := a.response(&r); err != nil {
		return err
	}
	switch {
	case c.Bool("primary") && !r.PrimaryReachable():
		return &exitError{code: control.ExitNoPrimary, message: "no primary can be reached"}
	case c.Bool("write") && !r.Writable:
		return &exitError{code: control.ExitNoPrimary, message: "clients can't write: " + screen.Clean(r.Reason)}
	}
	return nil
}

func (p *program) status(c *cli.Context, words []string) error {
	name := control.Status
	switch {
	case len(words) == 0:
	case slices.Equal(words, []string{"details"}):
		name = control.StatusDetails
	default:
		return usagef("status takes nothing or the word details")
	}
	_, err := p.do(c, name, nil)
	return err
}
