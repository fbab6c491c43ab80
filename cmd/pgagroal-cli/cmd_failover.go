package main

import (
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
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
		_, err = p.do(c, control.FailoverHistory, map[string]string{control.ArgCount: strconv.FormatUint(n, 10)})
		return err
	}
	if len(words) != 1 {
		return usagef(failoverUsage)
	}
	names := map[string]string{
		"status": control.FailoverStatus, "history": control.FailoverHistory, "pause": control.FailoverPause,
		"resume": control.FailoverResume, "reset": control.FailoverReset, "trigger": control.FailoverTrigger,
		"rehearse": control.FailoverRehearse,
	}
	args := map[string]string{}
	switch name := names[words[0]]; name {
	case "":
		return usagef(failoverUsage)
	case control.FailoverRehearse:
		return p.rehearse(c)
	case control.FailoverTrigger:
		if c.IsSet("to") {
			args[control.ArgServer] = c.String("to")
		}
		if c.Bool("force") {
			args[control.ArgForce] = "true"
		}
	}
	_, err := p.do(c, names[words[0]], args)
	return err
}

// rehearse fails if a failover would go wrong, so that monitoring can use its exit
// code.
func (p *program) rehearse(c *cli.Context) error {
	a, err := p.do(c, control.FailoverRehearse, nil)
	if err != nil {
		return err
	}
	var r control.RehearsalResponse
	if err := a.response(&r); err != nil {
		return err
	}
	if !r.Well {
		return failedf("failover-rehearse: a failover would not go well")
	}
	return nil
}
