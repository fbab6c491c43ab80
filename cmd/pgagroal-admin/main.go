package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/release"
)

// errShown says that the error was already printed as a document.
var errShown = errors.New("already reported")

func main() {
	err := run(os.Args, os.Stdin, os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	if !errors.Is(err, errShown) {
		fmt.Fprintln(os.Stderr, "pgagroal-admin:", err)
	}
	os.Exit(1)
}

// run is the program without the exit of the process.
func run(args []string, in io.Reader, out, errOut io.Writer) error {
	app := &cli.App{
		Name: "pgagroal-admin", Usage: "keep the users and the configuration of pgagroal, and look a set-up over",
		HideVersion: true, HideHelp: true, HideHelpCommand: true, Reader: in, Writer: out, ErrWriter: errOut,
		Flags: options(), Commands: commands(), Action: needCommand,
		OnUsageError: wrongUse, ExitErrHandler: func(*cli.Context, error) {},
	}
	return app.Run(arranged(args))
}

// needCommand is the error for a command line without a command, or with an unknown
// one.
func needCommand(c *cli.Context) error {
	if c.Bool("version") {
		return printVersion(c)
	}
	if err := cli.ShowSubcommandHelp(c); err != nil || c.Bool("help") {
		return err
	}
	if c.Args().Present() {
		return fmt.Errorf("unknown command %q", c.Args().First())
	}
	return errors.New("a command is missing")
}

func printVersion(c *cli.Context) error {
	_, err := fmt.Fprintln(c.App.Writer, release.Line(c.App.Name))
	return err
}

func wrongUse(_ *cli.Context, err error, _ bool) error { return err }
