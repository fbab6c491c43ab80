package main

import (
	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) serverCommands() []*cli.Command {
	return []*cli.Command{
		command("switch-to", "SERVER", "switch over to a standby as planned, or follow a switchover made by hand", p.switchTo),
		command("clear", "[server] SERVER | prometheus", "make a Failed server usable again, or set the counters of the metrics to zero", p.clear),
	}
}

func (p *program) switchTo(c *cli.Context, words []string) error {
	if len(words) != 1 {
		return usagef("switch-to takes the name of a server")
	}
	return p.onServer(c, control.SwitchTo, words[0])
}

// clear treats `clear server` as an incomplete command: that is far more likely
// than a server of this name, for which there is `clear server server`.
func (p *program) clear(c *cli.Context, words []string) error {
	switch {
	case len(words) == 1 && words[0] == "prometheus":
		_, err := p.do(c, control.ClearPrometheus, nil)
		return err
	case len(words) == 1 && words[0] != "server":
		return p.onServer(c, control.ClearServer, words[0])
	case len(words) == 2 && words[0] == "server":
		return p.onServer(c, control.ClearServer, words[1])
	}
	return usagef("clear server takes the name of a server")
}

func (p *program) onServer(c *cli.Context, name, server string) error {
	if server == "" {
		return usagef("%s: the name of the server is empty", name)
	}
	args := map[string]string{control.ArgServer: server}
	if c.Bool("force") {
		args[control.ArgForce] = "true"
	}
	if err := timeoutArg(c, args); err != nil {
		return err
	}
	_, err := p.do(c, name, args)
	return err
}
