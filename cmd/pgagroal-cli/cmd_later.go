package main

import (
	"github.com/urfave/cli/v2"
)

// laterCommands are commands of pgagroal that don't exist here yet. They get a
// clear error rather than that of an unknown command.
func laterCommands() []*cli.Command {
	var list []*cli.Command
	for _, name := range []string{"flush"} {
		list = append(list, command(name, "", "not available in this version", func(*cli.Context, []string) error {
			return notInThisVersion(name)
		}))
	}
	return list
}

func notInThisVersion(name string) error {
	return failedf("%s is not available in this version", name)
}
