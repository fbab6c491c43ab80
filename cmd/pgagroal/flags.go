package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

// file is a flag that names a file of the configuration.
func file(name, letter, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, Aliases: []string{letter}, Usage: usage, TakesFile: true}
}

func flags() []cli.Flag {
	return []cli.Flag{
		file("config", "c", "the main configuration"),
		file("hba", "a", "who may connect from where"),
		file("limit", "l", "limits and aliases of databases"),
		file("users", "u", "users and their passwords"),
		file("frontend", "F", "passwords that clients show instead"),
		file("admins", "A", "administrators"),
		file("superuser", "S", "the superuser"),
		file("directory", "D", "look up all files here; default $"+config.DirectoryVariable+", else "+config.DefaultDirectory),
		&cli.BoolFlag{Name: "daemon", Aliases: []string{"d"}, Usage: "run in the background"},
		&cli.BoolFlag{Name: "test", Aliases: []string{"t"}, Usage: "check the configuration, print it and end"},
		&cli.BoolFlag{Name: supervisor.TrialFlag, Usage: "of an upgrade: see whether this program could take the place of the running one", Hidden: true},
		&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"},
		&cli.BoolFlag{Name: "help", Aliases: []string{"?"}, Usage: "print this help"},
	}
}

func action(c *cli.Context) error {
	switch {
	case c.Bool("help"):
		return cli.ShowAppHelp(c)
	case c.Bool("version"):
		_, err := fmt.Fprintln(c.App.Writer, release.Line(c.App.Name))
		return err
	case c.Args().Present():
		return fmt.Errorf("unexpected argument %q; see pgagroal -?", c.Args().First())
	case c.Bool("test"):
		return test(c)
	case c.Bool(supervisor.TrialFlag):
		return trial(c)
	case c.Bool("daemon") && !isDaemon() && inheritedFD() == 0:
		return daemonise(os.Args)
	}
	return serve(c)
}

// paths returns the files that the flags name.
func paths(c *cli.Context) (config.Paths, error) {
	return config.FindPaths(config.Flags{
		Directory: c.String("directory"), Config: c.String("config"), HBA: c.String("hba"), Limits: c.String("limit"),
		Users: c.String("users"), Frontend: c.String("frontend"), Admins: c.String("admins"), Superuser: c.String("superuser"),
	})
}
