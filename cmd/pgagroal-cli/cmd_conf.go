package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func (p *program) confCommands() []*cli.Command {
	return []*cli.Command{
		command("conf", "ls | get [KEY] | set KEY VALUE | reset KEY | alias | reload",
			"tell the files in use or the configuration in effect, change a value, or read the files again", p.conf),
	}
}

func (p *program) conf(c *cli.Context, words []string) error {
	word := ""
	if len(words) > 0 {
		word = words[0]
	}
	switch {
	case word == "ls" && len(words) == 1:
		_, err := p.do(c, control.ConfList, nil)
		return err
	case word == "get" && len(words) == 1:
		_, err := p.do(c, control.ConfGet, nil)
		return err
	case word == "get" && len(words) == 2 && words[1] != "":
		return p.confGet(c, words[1])
	case word == "reload" && len(words) == 1:
		_, err := p.do(c, control.ConfReload, nil)
		return err
	case word == "set" && len(words) == 3 && words[1] != "":
		return p.confSet(c, words[1], words[2])
	case word == "reset" && len(words) == 2 && words[1] != "":
		_, err := p.do(c, control.ConfReset, map[string]string{control.ArgKey: words[1]})
		return err
	case word == "alias" && len(words) == 1:
		_, err := p.do(c, control.ConfAlias, nil)
		return err
	}
	return usagef("conf takes ls, get, get KEY, set KEY VALUE, reset KEY, alias or reload")
}

// confSet exits with 0 if the value needs a restart, because scripts of C pgagroal expect that.
func (p *program) confSet(c *cli.Context, key, value string) error {
	args := map[string]string{control.ArgKey: key, control.ArgValue: value}
	if c.Bool("persist") {
		args[control.ArgPersist] = "true"
	}
	_, err := p.do(c, control.ConfSet, args)
	return err
}

// confGet prints only the value in the formats text and tree, or Error if there is none,
// because scripts read it.
func (p *program) confGet(c *cli.Context, key string) error {
	args := map[string]string{control.ArgKey: key}
	format := c.String("format")
	if format != formatText && format != formatTree {
		_, err := p.do(c, control.ConfGet, args)
		return err
	}
	a, err := p.request(c, control.ConfGet, args)
	if err != nil {
		return err
	}
	failed := a.failure(control.ConfGet)
	if failed != nil {
		if err := p.put("Error\n"); err != nil {
			return err
		}
		return failed
	}
	v, err := parse(a.Response)
	if err != nil {
		return unreachablef("the answer can't be read: %v", err)
	}
	response, _ := v.(*object)
	value := response.get(key)
	if o, ok := value.(*object); ok && format == formatText && !isNested(o) {
		return p.put(sectionText(p.screen, key, o))
	}
	return p.put(valueText(value))
}

// sectionText shows a section to people: its keys as in the file, its entries as a table.
func sectionText(on screen.Screen, name string, o *object) string {
	if len(o.members) == 0 {
		return ""
	}
	if main := withoutSections(o); len(main.members) > 0 {
		return settings(main, nil)
	}
	return on.Table(plainTable(name, o))
}

// valueText shows one value: the string_value of a nested one, a section as a tree.
func valueText(v any) string {
	o, ok := v.(*object)
	if !ok {
		if v == "" {
			return "\n"
		}
		return scalar(v) + "\n"
	}
	if s := o.get("string_value"); s != nil {
		return scalar(s) + "\n"
	}
	if len(o.members) == 0 {
		return "{}\n"
	}
	var b strings.Builder
	writeObject(&b, o, "")
	return b.String()
}
