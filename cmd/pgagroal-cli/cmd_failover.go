package main

import (
	"strconv"

	"github.com/urfave/cli/v2"
)

func (p *program) failoverCommands() []*cli.Command {
	return []*cli.Command{
		command("failover", "status | history [N]", "tell the state of the failover, or what it did, the last N entries", p.failover),
	}
}

func (p *program) failover(c *cli.Context, words []string) error {
	switch {
	case len(words) == 1 && words[0] == "status":
		_, err := p.do(c, "failover-status", nil)
		return err
	case len(words) == 1 && words[0] == "history":
		_, err := p.do(c, "failover-history", nil)
		return err
	case len(words) == 2 && words[0] == "history":
		n, err := strconv.ParseUint(words[1], 10, 31)
		if err != nil || n == 0 {
			return usagef("failover history: %q is not a number of entries", words[1])
		}
		_, err = p.do(c, "failover-history", map[string]string{"count": strconv.FormatUint(n, 10)})
		return err
	}
	return usagef("failover takes status, history or history N")
}
