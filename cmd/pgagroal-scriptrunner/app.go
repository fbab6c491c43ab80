package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/scriptrunner"
)

const (
	defaultConfig = "/etc/pgagroal/pgagroal.conf"
	// socketName is FileDescriptorName= of the socket unit.
	socketName = "scriptrunner"
)

// run returns the exit code: 0 after a regular end, 1 after an error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &cli.App{
		Name:            "pgagroal-scriptrunner",
		Usage:           "run the failover scripts of pgagroal",
		HideVersion:     true, // the library has a letter of its own for it
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: defaultConfig, Usage: "read the scripts from `FILE`"},
			&cli.StringFlag{Name: "socket", Usage: "listen at `PATH` when no service manager has given a socket"},
			&cli.BoolFlag{Name: "version", Aliases: []string{"V"}, Usage: "print the version"},
		},
		Action:         func(c *cli.Context) error { return serve(c, stderr) },
		ExitErrHandler: func(*cli.Context, error) {},
	}
	if err := app.RunContext(ctx, args); err != nil {
		fmt.Fprintln(stderr, "pgagroal-scriptrunner:", err)
		return 1
	}
	return 0
}

func serve(c *cli.Context, stderr io.Writer) error {
	if c.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; only options are accepted", c.Args().First())
	}
	if c.Bool("version") {
		_, err := fmt.Fprintln(c.App.Writer, release.Line(c.App.Name))
		return err
	}
	log := scriptrunner.Logger(stderr)
	l, passed, err := listener(c.String("socket"))
	if err != nil {
		return err
	}
	notify(log, daemon.SdNotifyReady)
	err = scriptrunner.Run(c.Context, scriptrunner.Options{
		Listener:   l,
		OnDemand:   passed,
		ConfigPath: c.String("config"),
		StateDir:   os.Getenv("STATE_DIRECTORY"),
		Build:      release.Version(),
		Log:        log,
		Status:     func(text string) { notify(log, "STATUS="+text) },
	})
	notify(log, daemon.SdNotifyStopping)
	return err
}

// listener returns the socket that the service manager has passed, or else the one at path.
func listener(path string) (l *net.UnixListener, passed bool, err error) {
	given := activation.FilesWithNames()
	files := given[socketName]
	if len(files) == 0 && path != "" {
		l, err = scriptrunner.Listen(path)
		return l, false, err
	}
	if len(files) != 1 {
		return nil, false, errors.New("there is no socket named " + socketName + " from the service manager; start pgagroal-scriptrunner.socket, or give --socket")
	}
	l, err = scriptrunner.ListenOn(files[0])
	return l, true, err
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager can't be notified", "error", err)
	}
}
