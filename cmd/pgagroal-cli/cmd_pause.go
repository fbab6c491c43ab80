package main

import (
	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) pauseCommands() []*cli.Command {
	return []*cli.Command{
		command("pause", "[DATABASE | server SERVER | all]", "have clients wait, and close all connections once running work has ended", p.pause("pause", control.Pause)),
		command("resume", "[DATABASE | server SERVER | all]", "let paused clients go on", p.pause("resume", control.Resume)),
	}
}

// pause makes the action of pause and resume, which without a name are for all databases.
func (p *program) pause(word, name string) func(*cli.Context, []string) error {
	return func(c *cli.Context, words []string) error {
		args := map[string]string{control.ArgDatabase: "all"}
		switch {
		case len(words) == 1 && words[0] != "" && words[0] != "server":
			args[control.ArgDatabase] = words[0]
		case len(words) == 2 && words[0] == "server" && words[1] != "":
			args = map[string]string{control.ArgServer: words[1]}
		case len(words) > 0:
			return usagef("%s takes the name of a database, server and the name of a server, or nothing for all", word)
		}
		if err := timeoutArg(c, args); err != nil {
			return err
		}
		_, err := p.do(c, name, args)
		return err
	}
}
