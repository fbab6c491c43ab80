package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// DefaultDirectory is the directory of the files unless an option or DirectoryVariable
// names another.
const DefaultDirectory = "/etc/pgagroal"

// DirectoryVariable is the environment variable with the directory if there is no -D.
const DirectoryVariable = "PGAGROAL_CONFIG_DIR"

// Names of the files in their directory, which are also the keys of Paths.Explicit.
const (
	FileConfig    = "pgagroal.conf"
	FileHBA       = "pgagroal_hba.conf"
	FileIdent     = "pgagroal_ident.conf"
	FileLimits    = "pgagroal_databases.conf"
	FileUsers     = "pgagroal_users.conf"
	FileFrontend  = "pgagroal_frontend_users.conf"
	FileAdmins    = "pgagroal_admins.conf"
	FileSuperuser = "pgagroal_superuser.conf"
)

// Flags are the options of the command line that name files; empty means absent.
type Flags struct {
	Directory string // -D
	Config    string // -c
	HBA       string // -a
	Limits    string // -l
	Users     string // -u
	Frontend  string // -F
	Admins    string // -A
	Superuser string // -S
}

// FindPaths returns the path of each file: that of its flag, otherwise a file in the directory of -D
// or, without -D, of PGAGROAL_CONFIG_DIR, otherwise a file in /etc/pgagroal. Call it again before
// each reload, because files may have been added or removed.
func FindPaths(f Flags) (Paths, error) { return findPaths(f, DefaultDirectory) }

func findPaths(f Flags, fallback string) (Paths, error) {
	dir := f.Directory
	if dir == "" {
		dir = os.Getenv(DirectoryVariable)
	}
	if dir != "" {
		if err := readableDirectory(dir); err != nil {
			return Paths{}, err
		}
	}
	p := Paths{Explicit: map[string]bool{}, Tried: map[string][]string{}}
	for _, file := range []struct {
		name, flag string
		path       *string
	}{
		{FileConfig, f.Config, &p.Config},
		{FileHBA, f.HBA, &p.HBA},
		{FileIdent, "", &p.Ident},
		{FileLimits, f.Limits, &p.Limits},
		{FileUsers, f.Users, &p.Users},
		{FileFrontend, f.Frontend, &p.Frontend},
		{FileAdmins, f.Admins, &p.Admins},
		{FileSuperuser, f.Superuser, &p.Superuser},
	} {
		tried, err := locateFile(file.name, file.flag, dir, fallback)
		if err != nil {
			return Paths{}, err
		}
		p.Tried[file.name] = tried
		*file.path = tried[len(tried)-1]
		if file.flag != "" {
			p.Explicit[file.name] = true
		}
	}
	return p, nil
}

// locateFile returns the paths that were tried for a file; the last one is in use. They are absolute, because the daemon
// changes its working directory later.
func locateFile(name, flag, dir, fallback string) ([]string, error) {
	tried := []string{filepath.Join(fallback, name)}
	switch {
	case flag != "":
		tried = []string{flag}
	case dir != "":
		beside := filepath.Join(dir, name)
		if _, err := os.Stat(beside); errors.Is(err, os.ErrNotExist) {
			tried = []string{beside, tried[0]}
		} else {
			tried = []string{beside}
		}
	}
	for i, path := range tried {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("locate %s: %w", name, err)
		}
		tried[i] = abs
	}
	return tried, nil
}

func readableDirectory(dir string) error {
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("configuration directory: %w; name one that exists and can be read", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".")); err != nil {
		return fmt.Errorf("configuration directory: %w; make it searchable", err)
	}
	return nil
}
