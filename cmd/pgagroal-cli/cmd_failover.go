package main

import (
	"strconv"

	"github.com/urfave/cli/v2"
)

const failoverUsage = "failover takes status, history, history N, pause, resume, reset, trigger or rehearse"

func (p *program) failoverCommands() []*cli.Command {
	return []*cli.Command{
		command("failover", "status | history [N] | pause | resume | reset | trigger | rehearse", "tell the state of the failover or what it did, stop and continue it, order or rehearse one", p.failover),
	}
}

func (p *program) failover(c *cli.Context, words []string) error {
	if len(words) == 2 && words[0] == "history" {
		n, err := strconv.ParseUint(words[1], 10, 31)
		if err != nil || n == 0 {
			return usagef("failover history: %q is not a number of entries", words[1])
		}
		_, err = p.do(c, "failover-history", map[string]string{"count": strconv.FormatUint(n, 10)})
		return err
	}
	if len(words) != 1 {
		return usagef(failoverUsage)
	}
	args := map[string]string{}
	switch words[0] {
	case "rehearse":
		return p.rehearse(c)
	case "status", "history", "pause", "resume", "reset":
	case "trigger":
		if c.IsSet("to") {
			args["server"] = c.String("to")
		}
		if c.Bool("force") {
			args["force"] = "true"
		}
	default:
		return usagef(failoverUsage)
	}
	_, err := p.do(c, "failover-"+words[0], args)
	return err
}

// rehearse fails when a failover would not go well, so that monitoring can ask.
func (p *program) rehearse(c *cli.Context) error {
	doc, err := p.do(c, "failover-rehearse", nil)
	if err != nil {
		return err
	}
	response, _ := doc["Response"].(object)
	if well, _ := response["Well"].(bool); !well {
		return failedf("failover-rehearse: a failover would not go well, see Problems")
	}
	return nil
}
