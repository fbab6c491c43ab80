package main

import (
	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

func (p *program) databaseCommands() []*cli.Command {
	return []*cli.Command{
		command("enable", "[DATABASE|all]", "let new clients of a database in again", p.switchDatabase("enable", control.EnableDatabase)),
		command("disable", "[DATABASE|all]", "refuse new clients of a database", p.switchDatabase("disable", control.DisableDatabase)),
	}
}

// switchDatabase makes the action of enable and disable, which without a name are for all
// databases.
func (p *program) switchDatabase(word, name string) func(*cli.Context, []string) error {
	return func(c *cli.Context, words []string) error {
		database := "all"
		switch {
		case len(words) > 1:
			return usagef("%s takes the name of a database, or nothing for all", word)
		case len(words) == 1 && words[0] == "":
			return usagef("%s: the name of the database is empty", word)
		case len(words) == 1:
			database = words[0]
		}
		_, err := p.do(c, name, map[string]string{control.ArgDatabase: database})
		return err
	}
}
