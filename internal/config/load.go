package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// Load reads every file of p. On an error the configuration is nil, and the error joins all problems
// of all files, each a *FileError. Call Check on the configuration before you use it.
func Load(p Paths) (*Config, []Warning, error) {
	return load(p, nil)
}

func load(p Paths, known *MasterKey) (*Config, []Warning, error) {
	l := loader{paths: p, env: os.LookupEnv, known: known}
	c := l.keyFiles(true)
	l.hba(c)
	l.ident(c)
	l.limits(c)
	c.noteCredentials(time.Now())
	l.credentials(c)
	l.remarks(c)
	if len(l.errs) > 0 {
		return nil, l.warnings, errors.Join(l.errs...)
	}
	return c, l.warnings, nil
}

// Again reads the files again, and looks again for those that weren't there.
func (c *Config) Again() (*Config, []Warning, error) { return load(c.sources, c.key) }

// LoadMain reads only the main file at path and the files of its include_dir: neither users nor the master key, nor auto.conf.
// That is enough for the script runner, and for pgagroal-cli, which finds the control socket with it.
func LoadMain(path string) (*Config, error) {
	l := loader{paths: Paths{Config: path}, env: os.LookupEnv}
	c := l.keyFiles(false)
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return c, nil
}

// UserOf returns the value of user in the main file at path and the files of its include_dir, or "". It ignores problems
// of other keys, so that credential files can be made before the configuration is complete.
func UserOf(path string) (string, error) {
	if _, _, err := readWithMode(path); err != nil {
		return "", err
	}
	l := loader{paths: Paths{Config: path}, env: os.LookupEnv}
	return l.keyFiles(false).User, nil
}

type loader struct {
	paths    Paths
	env      func(string) (string, bool)
	keyFile  KeyFile
	known    *MasterKey // of an earlier load, or nil
	key      *MasterKey // derived once, when the first credential needs it
	without  *string    // key of auto.conf that doesn't count, empty for all; nil for none
	warnings []Warning
	errs     []error
}

func (l *loader) add(warnings []Warning, errs []error) {
	l.warnings = append(l.warnings, warnings...)
	l.errs = append(l.errs, errs...)
}

// read returns a file's content. If an optional file at its default path is missing, its path
// becomes empty and ok is false.
func (l *loader) read(path *string, name string, required bool) (data []byte, ok bool) {
	if *path == "" && !required {
		return nil, false
	}
	data, mode, err := readWithMode(*path)
	switch {
	case err == nil:
		return data, l.trust(*path, name, mode)
	case !required && !l.paths.Explicit[name] && errors.Is(err, os.ErrNotExist):
		*path = ""
		return nil, false
	}
	l.errs = append(l.errs, l.missing(*path, name, err))
	return nil, false
}

// missing returns the problem of a file that can't be read. It names every path that was tried, the one beside -D first,
// because that is where most people mean the file to be.
func (l *loader) missing(path, name string, err error) *FileError {
	msg := reason(err)
	if tried := l.paths.Tried[name]; len(tried) == 2 && tried[1] == path {
		msg = fmt.Sprintf("%v, and %s: %s", syscall.ENOENT, path, msg)
		path = tried[0]
	}
	return &FileError{File: path, Msg: msg + "; " + name + " must be there and readable"}
}

// readWithMode returns the content and the mode of a file, both from one open
// descriptor.
func readWithMode(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(f)
	return data, info.Mode(), err
}

// trust says whether a file may be used. It refuses a file of credentials that everybody may write to, and warns of any
// other such file.
func (l *loader) trust(path, name string, mode fs.FileMode) bool {
	if !mode.IsRegular() || mode.Perm()&0o002 == 0 {
		return true
	}
	msg := fmt.Sprintf("everybody may write to it (mode %04o); chmod o-w it", mode.Perm())
	switch name {
	case FileUsers, FileFrontend, FileAdmins, FileSuperuser:
		l.errs = append(l.errs, &FileError{File: path, Msg: msg})
		return false
	}
	l.warnings = append(l.warnings, Warning{File: path, Msg: msg})
	return true
}

// reason returns err without the path, because a FileError already has it.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

func (l *loader) hba(c *Config) {
	if data, ok := l.read(&c.Paths.HBA, FileHBA, true); ok {
		rules, errs := parseHBA(c.Paths.HBA, data, l.readReferred)
		l.errs = append(l.errs, errs...)
		c.HBA = rules
		l.warnings = append(append(l.warnings, shadowed(rules)...), unencrypted(rules)...)
	}
}

func (l *loader) ident(c *Config) {
	named := c.IdentFile != ""
	if named {
		c.Paths.Ident = beside(c.Paths.Config, c.IdentFile)
	}
	if data, ok := l.read(&c.Paths.Ident, FileIdent, named); ok {
		lines, errs := parseIdent(c.Paths.Ident, data, l.readReferred)
		l.errs = append(l.errs, errs...)
		c.Ident = lines
	}
}

// readReferred reads a file that a rules file refers to.
func (l *loader) readReferred(path string) ([]byte, error) {
	data, mode, err := readRuleFile(path)
	if err == nil {
		l.trust(path, filepath.Base(path), mode)
	}
	return data, err
}

func (l *loader) limits(c *Config) {
	if data, ok := l.read(&c.Paths.Limits, FileLimits, false); ok {
		limits, warnings, errs := ParseLimits(c.Paths.Limits, data, c.MaxConnections)
		l.add(warnings, errs)
		c.Limits = limits
	}
}

func (l *loader) credentials(c *Config) {
	c.Users = l.credentialFile(&c.Paths.Users, FileUsers, c.User)
	c.FrontendUsers = l.credentialFile(&c.Paths.Frontend, FileFrontend, c.User)
	c.Admins = l.credentialFile(&c.Paths.Admins, FileAdmins, c.User)
	super := l.credentialFile(&c.Paths.Superuser, FileSuperuser, c.User)
	switch len(super) {
	case 0:
	case 1:
		c.Superuser = &super[0]
	default:
		l.errs = append(l.errs, &FileError{File: c.Paths.Superuser, Msg: "more than one entry; keep the one superuser"})
	}
	if l.keyFile.Path != "" {
		c.keyPath, c.key = l.keyFile.Path, l.key
	}
}

func (l *loader) credentialFile(path *string, name, account string) []Credential {
	data, ok := l.read(path, name, false)
	if !ok {
		return nil
	}
	entries, errs := ParseEntries(*path, data)
	l.errs = append(l.errs, errs...)
	if len(entries) == 0 || len(errs) > 0 {
		return nil
	}
	if l.key == nil {
		if err := l.masterKey(account); err != nil {
			l.errs = append(l.errs, &FileError{File: *path, Msg: err.Error()})
			return nil
		}
	}
	credentials, errs := decryptEntries(*path, entries, l.key, l.keyFile)
	l.errs = append(l.errs, errs...)
	return credentials
}

// masterKey reads the key of the account that pgagroal runs as.
func (l *loader) masterKey(account string) (err error) {
	l.keyFile = KeyFile{Path: l.paths.MasterKey, UID: uint32(os.Geteuid()), User: account}
	if l.paths.MasterKey == "" {
		if l.keyFile, err = FindKeyFile(account); err != nil {
			return err
		}
	}
	l.key, err = l.keyFile.loadAgain(l.known)
	return err
}

// remarks warns of settings that make each other useless.
func (l *loader) remarks(c *Config) {
	warn := func(key, msg string) {
		file, line := c.at(key)
		l.warnings = append(l.warnings, Warning{file, line, key, msg})
	}
	if len(c.FrontendUsers) > 0 && c.AllowUnknownUsers {
		warn("allow_unknown_users", "on although there are frontend users: users without an entry are let in by the server's password")
	}
	if c.Management > 0 && len(c.Admins) == 0 {
		warn("management", "there are no admins, so the port is not opened: add one to "+FileAdmins+" with pgagroal-admin, and restart")
	}
	if discards.MatchString(c.ServerResetQuery) && together.MatchString(c.ServerResetQuery) {
		warn("server_reset_query", "DISCARD ALL can't run in a transaction, and these statements are run together: "+
			"each reset fails, and costs the connection; without BEGIN, COMMIT and the like, and without backslashes, they are run one by one")
	}
}

// discards matches a reset query with DISCARD ALL. together matches a reset query whose
// statements can't be run one by one.
var (
	discards = regexp.MustCompile(`(?i)\bdiscard\s+all\b`)
	together = regexp.MustCompile(`(?i)(^|;)\s*(begin|start\s+transaction|commit|end|rollback|abort)\b|;.*\\|\\.*;`)
)
