package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) confCommands() []*cli.Command {
	return []*cli.Command{
		command("conf", "ls | get [KEY]", "tell the files in use, or the configuration in effect", p.conf),
	}
}

func (p *program) conf(c *cli.Context, words []string) error {
	word := ""
	if len(words) > 0 {
		word = words[0]
	}
	switch {
	case word == "ls" && len(words) == 1:
		_, err := p.do(c, "conf-ls", nil)
		return err
	case word == "get" && len(words) == 1:
		_, err := p.do(c, "conf-get", nil)
		return err
	case word == "get" && len(words) == 2 && words[1] != "":
		return p.confGet(c, words[1])
	case word == "reload", word == "set", word == "alias":
		return notInThisVersion("conf " + word)
	}
	return usagef("conf takes ls, get or get KEY")
}

// confGet prints the value alone in the text format, and Error when there is
// none, which is what scripts read.
func (p *program) confGet(c *cli.Context, key string) error {
	args := map[string]string{"key": key}
	if c.String("format") != "text" {
		_, err := p.do(c, "conf-get", args)
		return err
	}
	doc, err := p.request(c, "conf-get", args)
	if err != nil {
		return err
	}
	text := "Error\n"
	failed := failure("conf-get", doc)
	if failed == nil {
		response, _ := doc["Response"].(object)
		text = valueText(response[key])
	}
	if _, err := fmt.Fprint(p.stdout, text); err != nil {
		return printed(err)
	}
	return failed
}

// valueText shows one value: the string_value of a nested one, a section as a tree.
func valueText(v any) string {
	o, ok := v.(object)
	if !ok {
		if v == "" {
			return "\n"
		}
		return scalar(v) + "\n"
	}
	if s, ok := o["string_value"]; ok {
		return scalar(s) + "\n"
	}
	if len(o) == 0 {
		return "{}\n"
	}
	var b strings.Builder
	writeObject(&b, o, "")
	return b.String()
}
