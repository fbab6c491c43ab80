package main

import (
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/top"
)

func (p *program) topCommands() []*cli.Command {
	return []*cli.Command{
		command("top", "", "show servers, failover, traffic, pools and clients, live", p.top),
	}
}

func (p *program) top(c *cli.Context, words []string) error {
	if len(words) > 0 {
		return usagef("top takes no argument")
	}
	if err := optionsOf(c, control.Find(control.StatusDetails)); err != nil {
		return err
	}
	if c.String("format") != formatText {
		return usagef("top is text; status details and failover status have its figures in other formats")
	}
	ask := func(command string, args map[string]string, response any) error {
		a, err := p.request(c, command, args)
		if err != nil {
			return err
		}
		if err := a.failure(command); err != nil {
			return err
		}
		if response == nil { // of a command that has none
			return nil
		}
		return a.response(response)
	}
	if c.Bool("once") {
		text, err := top.Once(ask, p.screen)
		if err != nil {
			return err
		}
		return p.put(text)
	}
	// The screen isn't taken for a pgagroal that isn't there.
	if err := ask(control.Ping, nil, &control.PingResponse{}); err != nil {
		return err
	}
	out, ok := p.stdout.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		return failedf("top needs a terminal; top --once prints the view once")
	}
	if err := top.Live(ask, p.screen, os.Stdin, out); err != nil {
		return failedf("top: %v", err)
	}
	return nil
}
