package main

import (
	"github.com/urfave/cli/v2"
)

// laterCommands are known from pgagroal and not there yet: they get a clear
// answer instead of a command that is unknown.
func laterCommands() []*cli.Command {
	var list []*cli.Command
	for _, name := range []string{"flush", "enable", "disable"} {
		list = append(list, command(name, "", "not available in this version", func(*cli.Context, []string) error {
			return notInThisVersion(name)
		}))
	}
	return list
}

func notInThisVersion(name string) error {
	return failedf("%s is not available in this version", name)
}
