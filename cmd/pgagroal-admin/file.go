package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// usersFile is a credential file as lines. Lines that are no entries stay
// unchanged.
type usersFile struct {
	path  string
	info  fs.FileInfo // nil when the file is new
	lines []string
	owner config.KeyFile // whose account a new file is for
}

// readUsers reads the file at path. With create, a missing file counts as empty.
func readUsers(path string, create bool) (*usersFile, error) {
	real, err := filepath.EvalSymlinks(path)
	if create && errors.Is(err, os.ErrNotExist) {
		return &usersFile{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	data, err := os.ReadFile(real)
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	f := &usersFile{path: real, info: info}
	for line := range bytes.Lines(data) {
		f.lines = append(f.lines, strings.TrimRight(string(line), "\r\n"))
	}
	return f, nil
}

// entryName returns the user of a line, or "".
func entryName(line string) string {
	line = strings.Trim(line, " \t")
	if line == "" || line[0] == '#' || line[0] == ';' {
		return ""
	}
	name, _, found := strings.Cut(strings.TrimLeft(line, ":"), ":")
	if !found {
		return ""
	}
	return name
}

func (f *usersFile) has(name string) bool {
	return slices.ContainsFunc(f.lines, func(l string) bool { return entryName(l) == name })
}

// put replaces the user's line, or adds one at the end. It removes a second line of
// the same user, which the daemon would refuse.
func (f *usersFile) put(name, blob string) {
	i := slices.IndexFunc(f.lines, func(l string) bool { return entryName(l) == name })
	f.remove(name)
	if i < 0 {
		i = len(f.lines)
	}
	f.lines = slices.Insert(f.lines, i, name+":"+blob)
}

func (f *usersFile) remove(name string) {
	f.lines = slices.DeleteFunc(f.lines, func(l string) bool { return entryName(l) == name })
}

// names returns the users, and errors for the lines that the daemon will refuse.
func (f *usersFile) names() ([]string, []error) {
	entries, problems := config.ParseEntries(f.path, f.text())
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, problems
}

func (f *usersFile) text() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

// write replaces the file in one step, durably. Owner and group stay; other users lose
// access.
func (f *usersFile) write() error {
	own := func(tmp *os.File) error { return keepOwner(tmp, f.info, 0o040) }
	if f.info == nil {
		own = func(tmp *os.File) error {
			if os.Geteuid() != 0 {
				return nil
			}
			return tmp.Chown(int(f.owner.UID), int(f.owner.GID)) // pgagroal may be started as its account, which must read the file
		}
	}
	if err := replaceFile(f.path, f.text(), own, os.Rename); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	return nil
}
