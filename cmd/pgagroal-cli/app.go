package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// program is one run of pgagroal-cli.
type program struct {
	stdout, stderr io.Writer
	log            *os.File      // --logfile, nil without
	screen         screen.Screen // what stdout is
	far            *far          // with --host, nil without
}

// run is main without the exit of the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	p := &program{stdout: stdout, stderr: stderr}
	app := p.app()
	options, words, err := permute(app.Flags, args)
	switch {
	case err != nil:
	case slices.Contains(options, "--version"):
		fmt.Fprintln(stdout, release.Line(app.Name))
	default:
		err = app.Run(slices.Concat([]string{app.Name}, options, []string{"--"}, words))
	}
	e := asExit(err)
	if e.message != "" {
		p.complain(e.message)
	}
	if e.usage {
		fmt.Fprintln(p.stderr, "Try pgagroal-cli --help")
	}
	if slices.Contains(options, "--verbose") {
		p.verdict(e.code)
	}
	if p.log != nil {
		p.log.Close()
	}
	return e.code
}

func (p *program) app() *cli.App {
	return &cli.App{
		Name:            "pgagroal-cli",
		HelpName:        "pgagroal-cli",
		Usage:           "ask and control a running pgagroal",
		UsageText:       "pgagroal-cli [OPTIONS] COMMAND",
		Description:     description,
		Flags:           flags(),
		Commands:        p.commands(),
		Writer:          p.stdout,
		ErrWriter:       p.stderr,
		HideHelp:        true, // the library's -h; here it is the host
		HideVersion:     true,
		HideHelpCommand: true,
		Before:          p.before,
		Action:          p.noCommand,
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return err },
		ExitErrHandler:  func(*cli.Context, error) {},
	}
}

// The words of --format and --color.
var (
	formats = []string{formatText, formatTree, formatJSON, formatRaw}
	colours = []string{screen.Auto, screen.Always, screen.Never}
)

const description = `Exit codes:
  0  done
  1  wrong use, a configuration that can't be read, a command that this version
     doesn't have, or a command that pgagroal refused or that failed
  2  pgagroal can't be reached, or went away before it had answered
  3  ping --primary and ping --write only: pgagroal answers, but there is no
     primary that can be reached, or none that clients can write to
  4  upgrade only: pgagroal was restarted instead, or the new version hasn't
     answered in time`

func flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "main configuration `FILE`; unix_socket_dir and port are taken from it (default: /etc/pgagroal/pgagroal.conf)"},
		&cli.StringFlag{Name: "socket", Usage: "control socket `PATH`, instead of a configuration"},
		&cli.StringFlag{Name: "format", Aliases: []string{"F"}, Usage: "text, tree (all fields as indented text), json, or raw (json with numbers for names)", Value: formatText, DefaultText: formatText},
		&cli.StringFlag{Name: "color", Usage: "colours of the text: `WHEN` is auto, always or never (default: auto, which is on a terminal, unless NO_COLOR is set)", Value: screen.Auto, DefaultText: screen.Auto},
		&cli.StringFlag{Name: "timeout", Aliases: []string{"T"}, Usage: "`TIME` after which a graceful shutdown or flush becomes immediate, 0 for never (default: flush_timeout), that switch-to waits for transactions (default: 10s), or pause for running work (default: 30s): 30, 30s, 5m, 1h, 2d, 1w"},
		&cli.BoolFlag{Name: "force", Usage: "for switch-to, clear and failover trigger: do it although it looks unsafe"},
		&cli.StringFlag{Name: "to", Usage: "for failover trigger: the `SERVER` to promote (default: the best one)"},
		&cli.BoolFlag{Name: "primary", Usage: "for ping: exit code 3 unless a primary can be reached"},
		&cli.BoolFlag{Name: "write", Usage: "for ping: exit code 3 unless clients can connect and write now"},
		&cli.BoolFlag{Name: "once", Usage: "for top: print the view once, after a second, and end"},
		&cli.BoolFlag{Name: "follow", Usage: "for events: go on with what happens from now on"},
		&cli.BoolFlag{Name: "persist", Usage: "for conf set: keep the value, in auto.conf of state_dir"},
		&cli.StringFlag{Name: "logfile", Aliases: []string{"L"}, Usage: "append messages to `FILE` as well"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "end with a line that tells the outcome"},
		&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"},
		&cli.BoolFlag{Name: "help", Aliases: []string{"?"}, Usage: "print this text"},
	}, remoteFlags()...)
}

// commands is the table of the command words, one file per group.
func (p *program) commands() []*cli.Command {
	return slices.Concat(p.statusCommands(), p.shutdownCommands(), p.serverCommands(), p.databaseCommands(), p.confCommands(), p.failoverCommands(), p.topCommands(), p.flushCommands(), p.pauseCommands(), p.lookCommands(), p.eventCommands())
}

// command makes a row. The action parses the words after the name itself: the
// library would take some of them for options or for help.
func command(name, args, usage string, action func(*cli.Context, []string) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: args,
		HideHelp: true, SkipFlagParsing: true,
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
		Action:       func(c *cli.Context) error { return action(c, c.Args().Slice()) },
	}
}

// before does everything that doesn't depend on the command.
func (p *program) before(c *cli.Context) error {
	if f := c.String("format"); !slices.Contains(formats, f) {
		return usagef("--format: %q is not text, tree, json or raw", f)
	}
	if w := c.String("color"); !slices.Contains(colours, w) {
		return usagef("--color: %q is not auto, always or never", w)
	}
	p.screen = screen.Of(p.stdout, os.Getenv, c.String("color"))
	if c.Bool("once") && c.Args().First() != "top" {
		return usagef("--once is for top")
	}
	if c.Bool("follow") && c.Args().First() != "events" {
		return usagef("--follow is for events")
	}
	if c.IsSet("socket") && c.IsSet("config") {
		return usagef("--socket and --config exclude each other")
	}
	if err := p.openLog(c.String("logfile")); err != nil {
		return err
	}
	return p.remote(c)
}

func (p *program) openLog(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return failedf("--logfile: %v", err)
	}
	p.log = f
	return nil
}

// noCommand runs if the first word isn't a command.
func (p *program) noCommand(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("a command is missing")
	}
	return usagef("%q is not a command", c.Args().First())
}

func (p *program) complain(message string) {
	fmt.Fprintln(p.stderr, "pgagroal-cli:", message)
	if p.log != nil {
		fmt.Fprintln(p.log, "pgagroal-cli:", message)
	}
}

// verdict prints the line of --verbose.
func (p *program) verdict(code int) {
	word := "Success"
	if code != control.ExitOK {
		word = "Error"
	}
	fmt.Fprintf(p.stderr, "%s (%d)\n", word, code)
}
