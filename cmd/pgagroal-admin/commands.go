package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Numbers of the commands in the printed documents, as in C pgagroal.
const (
	commandMasterKey = 19
	commandAdd       = 20
	commandEdit      = 21
	commandDel       = 22
	commandList      = 23
)

// everywhere are the options of every command.
func everywhere() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"},
		&cli.BoolFlag{Name: "help", Aliases: []string{"h", "?"}, Usage: "show help", DisableDefaultText: true},
	}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"F"}, Usage: "`FORMAT` of the answer: text or json", Value: formatText}
}

func usersFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "credential `FILE`", Value: filepath.Join(config.DefaultDirectory, config.FileUsers)},
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "main configuration `FILE`, whose user owns the master key; default: " + config.FileConfig + " beside the credential file"},
		&cli.StringFlag{Name: "user", Aliases: []string{"U"}, Usage: "`NAME` of the user, asked for when absent"},
		&cli.StringFlag{Name: "password", Aliases: []string{"P"}, Usage: "the `PASSWORD`; else $" + passwordVariable + ", else asked for"},
		&cli.BoolFlag{Name: "generate", Aliases: []string{"g"}, Usage: "make a random password"},
		&cli.IntFlag{Name: "length", Aliases: []string{"l"}, Usage: "`LENGTH` of a random password, 1 to 1024", Value: 64},
		formatFlag(),
	}
}

func initFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "ask nothing and take the defaults (conf init)"},
	}
}

func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "directory", Aliases: []string{"D"}, Usage: "`DIRECTORY` of the configuration, as with pgagroal -D (check)"},
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "main configuration `FILE`, as with pgagroal -c"},
		&cli.DurationFlag{Name: "timeout", Aliases: []string{"T"}, Usage: "`TIME` for all servers together, such as 10s (check)", Value: 10 * time.Second},
		formatFlag(),
	}
}

func importFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "to", Usage: "existing `DIRECTORY` for the new files (import)", Value: "."},
		formatFlag(),
	}
}

// options are the options of all commands together, for the help of the program.
func options() []cli.Flag {
	var list []cli.Flag
	for _, f := range slices.Concat(usersFlags(), initFlags(), checkFlags(), importFlags(), everywhere()) {
		if !slices.ContainsFunc(list, func(o cli.Flag) bool { return o.Names()[0] == f.Names()[0] }) {
			list = append(list, f)
		}
	}
	return list
}

func commands() []*cli.Command {
	return []*cli.Command{
		usersLeaf("master-key", "create the master key", commandMasterKey, createMasterKey),
		group("user", "keep the users of a file",
			usersLeaf("add", "add a user", commandAdd, addUser),
			usersLeaf("edit", "change the password of a user", commandEdit, editUser),
			usersLeaf("del", "delete a user", commandDel, deleteUser),
			usersLeaf("ls", "list the users", commandList, listUsers),
		),
		leaf("check", "look a whole set-up over", "", checkFlags(), check),
		leaf("import", "make a configuration from one of PgBouncer", "PGBOUNCER.INI [USERLIST.TXT]", importFlags(), importBouncer),
		group("conf", "edit a main configuration file",
			leaf("init", "write a new file", "FILE", initFlags(), confInit),
			leaf("get", "print the value of a key", "FILE SECTION KEY", nil, confGet),
			leaf("set", "set a key", "FILE SECTION KEY VALUE [COMMENT]", nil, confSet),
			leaf("del", "delete a key or a section", "FILE SECTION [KEY]", nil, confDelete),
			leaf("ls", "list the sections, or the keys of one", "FILE [SECTION]", nil, confList),
		),
	}
}

func group(name, usage string, commands ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Flags: options(), HideHelp: true, OnUsageError: wrongUse, Action: needCommand, Subcommands: commands,
	}
}

func usersLeaf(name, usage string, number int, do func(*call) error) *cli.Command {
	c := leaf(name, usage, "", usersFlags(), func(c *cli.Context) error { return perform(c, number, do) })
	return c
}

// leaf is a command without commands of its own. Arguments in brackets may be left out.
func leaf(name, usage, arguments string, flags []cli.Flag, action cli.ActionFunc) *cli.Command {
	words := strings.Fields(arguments)
	least := slices.IndexFunc(words, func(w string) bool { return w[0] == '[' })
	if least < 0 {
		least = len(words)
	}
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: arguments, Flags: slices.Concat(flags, everywhere()), HideHelp: true, OnUsageError: wrongUse,
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("version"):
				return printVersion(c)
			case c.Bool("help"):
				return cli.ShowSubcommandHelp(c)
			case arguments == "" && c.Args().Present():
				return fmt.Errorf("unexpected argument %q", c.Args().First())
			case c.NArg() < least || c.NArg() > len(words):
				return fmt.Errorf("%d arguments; write %s %s", c.NArg(), c.Command.HelpName, arguments)
			}
			return action(c)
		},
	}
}

// arranged moves the options between the words of the command and its arguments, so that they may be mixed.
func arranged(args []string) []string {
	takesValue := map[string]bool{}
	for _, f := range options() {
		if _, isBool := f.(*cli.BoolFlag); !isBool {
			for _, n := range f.Names() {
				takesValue[n] = true
			}
		}
	}
	var words, flags []string
	for i := 1; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			words = append(words, a)
			continue
		}
		flags = append(flags, a)
		if takesValue[strings.TrimLeft(a, "-")] && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	names := 0
	for list := commands(); names < len(words); names++ {
		at := slices.IndexFunc(list, func(c *cli.Command) bool { return c.Name == words[names] })
		if at < 0 {
			break
		}
		list = list[at].Subcommands
	}
	out := slices.Concat(args[:1], words[:names], flags)
	if names < len(words) {
		out = append(append(out, "--"), words[names:]...)
	}
	return out
}

// formatOf returns the format of the answer.
func formatOf(c *cli.Context) (string, error) {
	format := c.String("format")
	if format != formatText && format != formatJSON {
		return "", fmt.Errorf("unknown format %q; use text or json", format)
	}
	return format, nil
}
