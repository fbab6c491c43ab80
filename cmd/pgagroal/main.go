package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

func main() {
	// Before anything else, since an attacker may be watching a child or its parent
	// already.
	if err := proc.Conceal(); err != nil {
		fmt.Fprintln(os.Stderr, "pgagroal:", err)
		os.Exit(1)
	}
	if code, ok := child(); ok {
		os.Exit(code)
	}
	os.Exit(supervise())
}

// supervise is run with its errors and the log going through a queue, so that
// neither can block it.
func supervise() int {
	errOut := logline.NewQueue(os.Stderr)
	defer errOut.Close(logline.FlushLimit)
	return run(os.Args, os.Stdout, errOut)
}

// run is the program without the exit of the process. It returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	app := &cli.App{
		Name: "pgagroal", Usage: "connection pool for PostgreSQL", ArgsUsage: " ",
		HideVersion: true, HideHelp: true, HideHelpCommand: true, Writer: out, ErrWriter: errOut,
		Flags: flags(), Action: action,
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
		ExitErrHandler: func(*cli.Context, error) {},
	}
	err := app.Run(args)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(errOut, "pgagroal:", strings.TrimSuffix(line, "\n"))
	}
	return 1
}
