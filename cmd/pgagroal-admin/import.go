package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/cmd/pgagroal-admin/pgbouncer"
	"github.com/pgagroal-go/pgagroal/internal/config"
)

// importBouncer writes a configuration made from one of PgBouncer. It replaces no file.
func importBouncer(c *cli.Context) error {
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	dir := c.String("to")
	started := now()
	r, err := pgbouncer.Import(c.Args().Get(0), c.Args().Get(1))
	if err != nil {
		return fmt.Errorf("read the configuration of PgBouncer: %w", err)
	}
	names := slices.Sorted(maps.Keys(r.Files))
	for _, name := range append(names, config.FileUsers) {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already, or can't be looked at; name an empty directory with --to", filepath.Join(dir, name))
		}
	}
	for _, name := range names {
		own := func(tmp *os.File) error { return tmp.Chmod(0o644) }
		if err := replaceFile(filepath.Join(dir, name), []byte(r.Files[name]), own, os.Link); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	written := slices.Clone(names)
	if len(r.Users) > 0 {
		if err := writeUsers(dir, r.Users); err != nil {
			usersLeft(r, dir, err)
		} else {
			written = append(written, config.FileUsers)
		}
	}
	if format == formatJSON {
		return printJSON(c.App.Writer, documentOf("import", format, started, true, map[string]any{"Settings": r.Rows, "Files": written, "Directory": dir}))
	}
	return printImport(c.App.Writer, r.Rows, written, dir)
}

// writeUsers writes the users file with the master key of the account that the new configuration names.
func writeUsers(dir string, users []config.Credential) error {
	account, err := config.UserOf(filepath.Join(dir, config.FileConfig))
	if err != nil {
		return err
	}
	keyFile, err := config.FindKeyFile(account)
	if err != nil {
		return err
	}
	key, err := keyFile.Load()
	if err != nil {
		return err
	}
	file := &usersFile{path: filepath.Join(dir, config.FileUsers), owner: keyFile}
	for _, u := range users {
		blob, err := key.Encrypt(u.Password)
		if err != nil {
			return err
		}
		file.put(u.Name, blob)
	}
	return file.write()
}

// usersLeft says why the users couldn't be written, and how to add each.
func usersLeft(r *pgbouncer.Result, dir string, why error) {
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Became == config.FileUsers {
			row.Became = ""
			row.Text = fmt.Sprintf("pgagroal-admin -f %s user add -U %s", filepath.Join(dir, config.FileUsers), row.Value)
		}
	}
	r.Rows = append(r.Rows, pgbouncer.Row{Setting: "auth_file", Text: "the users file can't be written: " + why.Error()})
}

// printImport prints what became of each setting: first what has no counterpart, because that is to be read.
func printImport(w io.Writer, rows []pgbouncer.Row, written []string, dir string) error {
	var b strings.Builder
	section := func(title string, of func(pgbouncer.Row) bool) {
		first := true
		for _, r := range rows {
			if !of(r) {
				continue
			}
			if first {
				b.WriteString(title + "\n")
				first = false
			}
			b.WriteString("  " + r.Setting)
			if r.Value != "" {
				b.WriteString(" = " + r.Value)
			}
			b.WriteString("\n")
			for _, line := range []string{r.Became, r.Text} {
				if line != "" {
					b.WriteString("      " + line + "\n")
				}
			}
		}
	}
	section("To be done by hand, or without a counterpart:", func(r pgbouncer.Row) bool { return r.Became == "" && !r.Idle() })
	section("Taken over:", func(r pgbouncer.Row) bool { return r.Became != "" })
	section("Not needed here:", pgbouncer.Row.Idle)
	fmt.Fprintf(&b, "Written to %s: %s\nLook it over, then: pgagroal-admin check -D %s\n", dir, strings.Join(written, ", "), dir)
	_, err := io.WriteString(w, b.String())
	return err
}
