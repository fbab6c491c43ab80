package main

import (
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) lookCommands() []*cli.Command {
	return []*cli.Command{
		command("clients", "", "list the clients and what they are doing", p.look("clients", control.Clients)),
		command("servers", "", "list the servers, with what was seen last and the connections to each", p.look("servers", control.Servers)),
		command("pools", "", "list the pools, with their connections and waiting clients", p.look("pools", control.Pools)),
		command("kick", "ID", "disconnect a client", p.kick),
		command("worker", "recycle [PID|all]", "replace a worker, or all one after the other, by a fresh process that goes on with its clients", p.worker),
	}
}

func (p *program) look(word, name string) func(*cli.Context, []string) error {
	return func(c *cli.Context, words []string) error {
		if len(words) > 0 {
			return usagef("%s takes no argument", word)
		}
		_, err := p.do(c, name, nil)
		return err
	}
}

// worker replaces all workers unless one is named.
func (p *program) worker(c *cli.Context, words []string) error {
	which := control.AllWorkers
	switch {
	case len(words) == 0 || words[0] != "recycle" || len(words) > 2:
		return usagef("worker takes recycle, and the process id of a worker, or nothing for all")
	case len(words) == 2:
		which = words[1]
	}
	if _, err := strconv.ParseUint(which, 10, 31); err != nil && which != control.AllWorkers {
		return usagef("worker recycle: %q is not the process id of a worker", which)
	}
	_, err := p.do(c, control.WorkerRecycle, map[string]string{control.ArgWorker: which})
	return err
}

func (p *program) kick(c *cli.Context, words []string) error {
	if len(words) != 1 {
		return usagef("kick takes the id of a client, which clients shows")
	}
	id, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil {
		return usagef("kick: %q is not the id of a client", words[0])
	}
	_, err = p.do(c, control.Kick, map[string]string{control.ArgID: strconv.FormatUint(id, 10)})
	return err
}
