package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

func confGet(c *cli.Context) error {
	m, err := readMain(c.Args().First())
	if err != nil {
		return err
	}
	value, err := m.Get(c.Args().Get(1), c.Args().Get(2))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.App.Writer, value)
	return err
}

func confList(c *cli.Context) error {
	m, err := readMain(c.Args().First())
	if err != nil {
		return err
	}
	names := m.Sections()
	if c.NArg() > 1 {
		section, ok := c.Args().Get(1), false
		if names, ok = m.KeysOf(section); !ok {
			return fmt.Errorf("%s has no section [%s]; it has %s", c.Args().First(), section, strings.Join(m.Sections(), ", "))
		}
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(c.App.Writer, name); err != nil {
			return err
		}
	}
	return nil
}

func confSet(c *cli.Context) error {
	a := c.Args()
	return editMain(a.First(), func(m *config.MainText) error { return m.Set(a.Get(1), a.Get(2), a.Get(3), a.Get(4)) })
}

func confDelete(c *cli.Context) error {
	return editMain(c.Args().First(), func(m *config.MainText) error { return m.Delete(c.Args().Get(1), c.Args().Get(2)) })
}

func readMain(path string) (*config.MainText, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return config.NewMainText(path, text), nil
}

// editMain changes a main file while no other pgagroal-admin does so. Owner and mode of the file stay.
func editMain(path string, edit func(*config.MainText) error) error {
	unlock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readMain(path)
	if err != nil {
		return err
	}
	if err := edit(m); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	own := func(tmp *os.File) error { return keepOwner(tmp, info, fs.ModePerm) }
	if err := replaceFile(real, m.Bytes(), own, os.Rename); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// question is one of conf init.
type question struct {
	section, key, text, standard string
}

func questions() []question {
	return []question{
		{"pgagroal", "host", "Addresses to listen on, * for all", "*"},
		{"pgagroal", "port", "Port", "2345"},
		{"pgagroal", "unix_socket_dir", "Directory of the Unix sockets", "/tmp"},
		{"pgagroal", "max_connections", "Most connections to servers", "100"},
		{"pgagroal", "metrics", "Port of the metrics, 0 for none", "0"},
		{"pgagroal", "user", "Account to change to when started as root, empty for none", ""},
		{"primary", "host", "Host of the primary", "localhost"},
		{"primary", "port", "Port of the primary", "5432"},
		{"primary", "primary", "Is it the primary at the first start (on or off)", "on"},
		{"standby", "host", "Host of a standby, empty for none", ""},
		{"standby", "port", "Port of the standby", "5432"},
	}
}

const initHead = "# Configuration of pgagroal. Keys that aren't here have their defaults; pgagroal.conf(5) has all of them.\n"

func confInit(c *cli.Context) error {
	path := c.Args().First()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already, or can't be looked at; conf set changes it", path)
	}
	m := config.NewMainText(path, []byte(initHead))
	in := bufio.NewReader(c.App.Reader)
	for _, q := range questions() {
		if q.section == "standby" && q.key != "host" && !hasSection(m, "standby") {
			continue
		}
		if err := q.put(m, c, in); err != nil {
			return err
		}
	}
	own := func(tmp *os.File) error { return tmp.Chmod(0o644) }
	if err := replaceFile(path, m.Bytes(), own, os.Link); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

func hasSection(m *config.MainText, name string) bool {
	_, ok := m.KeysOf(name)
	return ok
}

// put asks a question until the parser takes the answer, and writes that.
func (q question) put(m *config.MainText, c *cli.Context, in *bufio.Reader) error {
	if c.Bool("quiet") {
		return q.set(m, q.standard)
	}
	for {
		fmt.Fprintf(c.App.ErrWriter, "%s [%s]: ", q.text, q.standard)
		line, err := in.ReadString('\n')
		if err != nil && (err != io.EOF || line == "") {
			return fmt.Errorf("read the answer: %w", err)
		}
		answer := strings.TrimSpace(line)
		if answer == "" {
			answer = q.standard
		}
		wrong := q.set(m, answer)
		if wrong == nil {
			return nil
		}
		fmt.Fprintln(c.App.ErrWriter, "pgagroal-admin:", wrong)
	}
}

func (q question) set(m *config.MainText, value string) error {
	if value == "" {
		return nil
	}
	return m.Set(q.section, q.key, value, "")
}
