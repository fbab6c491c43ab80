package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

// load reads the configuration. Its warnings go where errors go.
func load(c *cli.Context) (*config.Config, error) {
	p, err := paths(c)
	if err != nil {
		return nil, err
	}
	p.FindStateDir = supervisor.StateDir
	cfg, warnings, err := config.Load(p)
	for _, w := range warnings {
		warn(c, w)
	}
	return cfg, err
}

func warn(c *cli.Context, warning any) { fmt.Fprintln(c.App.ErrWriter, "pgagroal: warning:", warning) }

// test is -t: it checks everything that can be looked at without a start. It only warns of a port that is taken, because
// it is usually run while pgagroal serves.
func test(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	if errs := supervisor.Check(cfg); len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, w := range supervisor.Warnings(cfg) {
		warn(c, w)
	}
	return cfg.WriteMain(c.App.Writer)
}

// serve runs the supervisor.
func serve(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	return supervisor.Run(supervisor.Options{
		Config: cfg, Build: version, Background: isDaemon(), Ready: tellParent,
		Log: logline.New(c.App.ErrWriter, cfg.LogLinePrefix, logline.Level(cfg.LogLevel), "supervisor"),
	})
}
