package main

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// followFrom is with how many events of before --follow begins.
const followFrom = 10

func (p *program) eventCommands() []*cli.Command {
	return []*cli.Command{
		command("events", "[N]", "list what has happened, the last N events; --follow goes on", p.events),
	}
}

func (p *program) events(c *cli.Context, words []string) error {
	follow, format := c.Bool("follow"), c.String("format")
	lines := format == formatText || format == formatJSON
	args := map[string]string{}
	switch {
	case len(words) > 1:
		return usagef("events takes a number of events")
	case follow && !lines:
		return usagef("events --follow has the formats text and json")
	case len(words) == 1:
		n, err := strconv.ParseUint(words[0], 10, 31)
		if err != nil || n == 0 {
			return usagef("events: %q is not a number of events", words[0])
		}
		args[control.ArgCount] = words[0]
	case follow:
		args[control.ArgCount] = strconv.Itoa(followFrom)
	}
	if !lines {
		_, err := p.do(c, control.Events, args)
		return err
	}
	r, err := p.someEvents(c, args)
	for err == nil && follow {
		r, err = p.nextEvents(c, r)
	}
	return err
}

// someEvents asks for events and prints them: for programs an object a line.
func (p *program) someEvents(c *cli.Context, args map[string]string) (*control.EventsResponse, error) {
	a, r, err := p.askEvents(c, args)
	if err != nil {
		return nil, err
	}
	return r, p.putEvents(c, a, r)
}

func (p *program) askEvents(c *cli.Context, args map[string]string) (*answer, *control.EventsResponse, error) {
	a, err := p.request(c, control.Events, maps.Clone(args))
	if err == nil {
		err = a.failure(control.Events)
	}
	r := &control.EventsResponse{}
	if err == nil {
		err = a.response(r)
	}
	return a, r, err
}

func (p *program) putEvents(c *cli.Context, a *answer, r *control.EventsResponse) error {
	if c.String("format") == formatText {
		text, err := a.write(p.screen)
		if err != nil {
			return err
		}
		return p.put(text)
	}
	text := ""
	if r.Missed > 0 {
		text = fmt.Sprintf("{\"missed\":%d}\n", r.Missed)
	}
	for _, e := range r.Events {
		text += string(e) + "\n"
	}
	return p.put(text)
}

// nextEvents waits for the events after those of r.
func (p *program) nextEvents(c *cli.Context, r *control.EventsResponse) (*control.EventsResponse, error) {
	a, next, err := p.askEvents(c, map[string]string{control.ArgAfter: strconv.FormatUint(r.Last, 10), control.ArgFollow: "true"})
	switch {
	case err != nil:
		return nil, err
	case next.Run != r.Run: // pgagroal was started again, and counts anew
		return p.someEvents(c, map[string]string{control.ArgAfter: "0"})
	case len(next.Events) == 0 && next.Missed == 0:
		return next, nil
	}
	return next, p.putEvents(c, a, next)
}
