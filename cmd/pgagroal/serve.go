package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/release"
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
	left := inheritedFD()
	os.Unsetenv(supervisor.HeritageVariable)
	return supervisor.Run(supervisor.Options{
		Config: cfg, Build: release.Version(), Background: isDaemon(), Ready: tellParent, Heritage: left, Program: programPath(),
		Log: logline.New(c.App.ErrWriter, cfg.LogLinePrefix, logline.Level(cfg.LogLevel), "supervisor"),
	})
}

// trial sees whether this program could take the place of the running one.
func trial(c *cli.Context) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	return supervisor.Try(supervisor.Options{
		Config: cfg, Build: release.Version(), Program: programPath(),
		Log: logline.New(c.App.ErrWriter, cfg.LogLinePrefix, slog.LevelWarn, "trial"),
	})
}

// inheritedFD returns the descriptor with what another program in this process has left, 0 for
// none.
func inheritedFD() int {
	fd, err := strconv.Atoi(os.Getenv(supervisor.HeritageVariable))
	if err != nil || fd < 3 {
		return 0
	}
	return fd
}

// programPath returns the path that this process was started as: a package upgrade puts another
// program there. It is the path of the running file if the name leads to another one, and "" if
// that is unknown.
func programPath() string {
	self, err := os.Executable()
	if err != nil {
		self = ""
	}
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err == nil && sameFile(path, "/proc/self/exe") {
		return path
	}
	return self
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
