package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func (p *program) statusCommands() []*cli.Command {
	return []*cli.Command{
		command("ping", "", "tell which servers can be reached", p.ping),
		command("status", "[details]", "tell the state of pgagroal, its servers and connections", p.status),
	}
}

func (p *program) ping(c *cli.Context, words []string) error {
	if len(words) > 0 {
		return usagef("ping takes no argument")
	}
	doc, err := p.do(c, "ping", nil)
	if err != nil {
		return err
	}
	if !primaryReachable(doc) {
		return &exitError{code: exitNoPrimary, message: "no primary can be reached"}
	}
	return nil
}

func primaryReachable(doc object) bool {
	found := false
	response, _ := doc["Response"].(object)
	each(response["Servers"], func(o object) {
		found = found || o["Primary"] == "Yes" && o["Status"] == "Running"
	})
	return found
}

func (p *program) status(c *cli.Context, words []string) error {
	name := "status"
	switch {
	case len(words) == 0:
	case slices.Equal(words, []string{"details"}):
		name = "status-details"
	default:
		return usagef("status takes nothing or the word details")
	}
	_, err := p.do(c, name, nil)
	return err
}
