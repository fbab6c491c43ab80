package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/ncruces/go-strftime"
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
		Config: cfg, Build: version, Ready: tellParent,
		Dropped: func() error {
			if cfg.LogType != "file" {
				return nil
			}
			return logToFile(cfg)
		},
		Log: logline.New(c.App.ErrWriter, cfg.LogLinePrefix, logline.Level(cfg.LogLevel), "supervisor"),
	})
}

// logToFile replaces standard error, which the children inherit, by the log file.
// This version doesn't rotate it. The file is opened after root is given up:
// otherwise everybody who can write to the directory of the log could make root
// write to any file.
func logToFile(cfg *config.Config) error {
	pattern := cfg.LogPath
	if pattern == "" {
		pattern = "pgagroal.log"
	}
	mode := os.O_APPEND
	if cfg.LogMode == "create" {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(strftime.Format(pattern, time.Now()), os.O_WRONLY|os.O_CREATE|mode, 0o640)
	if err != nil {
		return fmt.Errorf("open the log file: %w", err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("open the log file: %w", err)
	}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { dupErr = syscall.Dup3(int(fd), int(os.Stderr.Fd()), 0) }); err != nil {
		return fmt.Errorf("open the log file: %w", err)
	}
	if dupErr != nil {
		return fmt.Errorf("open the log file: %w", dupErr)
	}
	return nil
}
