package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/cmd/pgagroal-admin/checkup"
	"github.com/pgagroal-go/pgagroal/internal/config"
)

// check looks a set-up over. It fails if there is an error among the findings.
func check(c *cli.Context) error {
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	paths, err := config.FindPaths(config.Flags{Directory: c.String("directory"), Config: c.String("config")})
	if err != nil {
		return err
	}
	started := now()
	r := checkup.Run(c.Context, paths, c.Duration("timeout"))
	if format == formatJSON {
		err = printJSON(c.App.Writer, documentOf("check", format, started, r.Errors == 0, map[string]any{
			"Findings": r.Findings, "Errors": r.Errors, "Warnings": r.Warnings, "Notes": r.Notes,
		}))
	} else {
		err = r.WriteText(c.App.Writer)
	}
	switch {
	case err != nil:
		return fmt.Errorf("print the answer: %w", err)
	case r.Errors > 0:
		return errShown
	}
	return nil
}
