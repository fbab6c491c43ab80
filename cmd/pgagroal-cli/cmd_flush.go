package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) flushCommands() []*cli.Command {
	return []*cli.Command{
		command("flush", "[gracefully | idle | all] [DATABASE|all]", "close connections to the servers, when unused, only those that are unused, or all", p.flush),
	}
}

// flush takes a word for the mode first and then a database, each of which may be left
// away. `flush all` is the mode, `flush idle` too: a database of such a name needs its mode.
func (p *program) flush(c *cli.Context, words []string) error {
	args := map[string]string{control.ArgMode: "gracefully", control.ArgDatabase: "all"}
	if len(words) > 0 && slices.Contains(control.FlushModes, words[0]) {
		args[control.ArgMode], words = words[0], words[1:]
	}
	switch {
	case len(words) > 1 || len(words) == 1 && words[0] == "":
		return usagef("flush takes gracefully, idle or all, and the name of a database or nothing for all")
	case len(words) == 1:
		args[control.ArgDatabase] = words[0]
	}
	if c.IsSet("timeout") && args[control.ArgMode] != "gracefully" {
		return usagef("--timeout is for flush gracefully")
	}
	if err := timeoutArg(c, args); err != nil {
		return err
	}
	_, err := p.do(c, control.Flush, args)
	return err
}
