package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// AutoName is the name of the file in state_dir that conf set --persist writes.
const AutoName = "auto.conf"

// maxAuto is the greatest size of auto.conf in bytes. It is far above what every key with a long value needs.
const maxAuto = 1 << 20

// FilesOnly returns why a key may be set only in the files of the administrator and never in auto.conf, or "". The account
// that pgagroal runs as can write auto.conf. So nothing in it may name a program, an account or a file, let anybody in,
// open a port, weaken TLS or run SQL, and nothing that other programs read from the same configuration may be in it.
func (r Row) FilesOnly() string {
	switch {
	case r.RunnerReads():
		return "the script runner has to know it, and reads only the files of the administrator"
	case r.Kind == Path, r.Kind == File:
		return "it names a file or directory"
	case r.Name == "user", r.Name == "worker_user":
		return "it names an account of this machine"
	case r.Name == "port":
		return "pgagroal-cli finds its socket by it, and reads only the files of the administrator"
	case slices.Contains(entryKeys[:], r.Name), strings.HasPrefix(r.Name, "auth_query_"), strings.HasPrefix(r.Name, "rotate_frontend_"):
		return "it decides who is let in by whose password"
	case slices.Contains(listenKeys[:], r.Name):
		return "it decides where pgagroal listens, and for whom"
	case r.Name == "tls", strings.HasPrefix(r.Name, "tls_"):
		return "it decides how connections are protected"
	case strings.HasPrefix(r.Name, "server_reset_query"):
		return "it decides which SQL the servers run"
	}
	return ""
}

// entryKeys decide who is let in, and how clients and servers prove who they are.
var entryKeys = [...]string{
	"allow_unknown_users", "auth_query", "auth_failure_delay", "channel_binding", "follow_credential_files", "md5", "proxy_protocol",
	"require_auth",
}

// listenKeys decide where pgagroal listens, and for whom.
var listenKeys = [...]string{"console", "console_names", "host", "management", "metrics"}

// RunnerReads reports whether the script runner reads the key, too.
func (r Row) RunnerReads() bool {
	return slices.Contains(hookKeys[:], r.Name) || r.Section == ServerSection && (r.Name == "host" || r.Name == "port")
}

// keyFiles reads the main file and the files of include_dir, and auto.conf if auto is set.
func (l *loader) keyFiles(auto bool) *Config {
	p := newParser(New(), l.env)
	c := p.c
	c.Paths, c.sources = l.paths, l.paths
	if data, ok := l.read(&c.Paths.Config, FileConfig, true); ok {
		p.read(c.Paths.Config, data, mainFile)
	}
	l.includeDir(p)
	if auto {
		l.auto(p)
	}
	p.warnings = append(p.warnings, c.settle()...)
	l.add(p.warnings, p.errs)
	return c
}

// includeDir reads the files NAME.conf of include_dir in the order of the bytes of their names.
func (l *loader) includeDir(p *parser) {
	c := p.c
	if c.IncludeDir == "" {
		return
	}
	dir := beside(c.Paths.Config, c.IncludeDir)
	fail := func(err error) {
		file, line := c.at("include_dir")
		l.errs = append(l.errs, &FileError{File: file, Line: line, Key: "include_dir", Msg: fmt.Sprintf("%s: %s; it must be a directory that can be read", dir, reason(err))})
	}
	if info, err := os.Stat(dir); err != nil {
		fail(err)
		return
	} else if info.Mode().Perm()&0o002 != 0 {
		l.warnings = append(l.warnings, Warning{File: dir, Msg: fmt.Sprintf("everybody may write to it (mode %04o); chmod o-w it", info.Mode().Perm())})
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		fail(err)
		return
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".conf") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := l.readReferred(path)
		if err != nil {
			l.errs = append(l.errs, &FileError{File: path, Msg: reason(err) + "; make it readable, or give it a name that doesn't end in .conf"})
			continue
		}
		c.Paths.Included = append(c.Paths.Included, path)
		p.read(path, data, includedFile)
	}
}

// auto reads auto.conf, if there is one.
func (l *loader) auto(p *parser) {
	c := p.c
	if c.Paths.Auto == "" {
		dir := c.StateDir
		if c.Paths.FindStateDir != nil {
			dir = c.Paths.FindStateDir(c)
		}
		if dir == "" {
			return
		}
		c.Paths.Auto = filepath.Join(dir, AutoName)
		c.sources.Auto = c.Paths.Auto
	}
	data, err := readAuto(c.Paths.Auto)
	if err != nil {
		l.errs = append(l.errs, &FileError{File: c.Paths.Auto, Msg: reason(err) + "; mend or delete it"})
		return
	}
	p.without = l.without
	p.read(c.Paths.Auto, data, autoFile)
}

// readAuto returns the content of auto.conf, which is empty if there is no file. A start as root reads a file here that
// another account can replace. So it follows no link, doesn't wait for a pipe, and takes only a file of the owner of the
// directory.
func readAuto(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	st, ok := dir.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case !ok || !ownedBy(info, st.Uid):
		return nil, errors.New("it doesn't belong to the owner of its directory")
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others may write to it (mode %04o)", info.Mode().Perm())
	case info.Size() > maxAuto:
		return nil, fmt.Errorf("it is larger than %d bytes", maxAuto)
	}
	return io.ReadAll(io.LimitReader(f, maxAuto))
}

// PersistedText returns a new content for auto.conf: the one on disk, with KEY or server.NAME.KEY set to the value in c,
// or without that key if remove is set. For the empty name it removes all keys.
func (c *Config) PersistedText(name string, remove bool) (string, error) {
	data, err := readAuto(c.Paths.Auto)
	if err != nil {
		return "", &FileError{File: c.Paths.Auto, Msg: reason(err)}
	}
	p := newParser(c.Clone(), os.LookupEnv)
	p.c.origins = nil
	p.read(c.Paths.Auto, data, autoFile)
	if len(p.errs) > 0 {
		return "", errors.Join(p.errs...)
	}
	var b strings.Builder
	b.WriteString("# Written by pgagroal-cli conf set --persist, and read after all other files.\n# pgagroal-cli conf reset KEY removes a key.\n")
	section := ""
	for e := range c.Rows() {
		full := e.FullName()
		_, kept := p.c.origins[full]
		text := e.Text
		switch {
		case remove && (name == "" || full == name), !kept && full != name:
			continue
		case full != name:
			text, _ = p.c.Get(full)
		}
		if want := "[" + cmp.Or(e.Server, mainSections[0]) + "]\n"; want != section {
			section = want
			b.WriteString("\n" + section)
		}
		fmt.Fprintf(&b, "%s = %s\n", e.Row.Name, e.Row.quoted(text))
	}
	return b.String(), nil
}

// Reset returns a copy of c in which KEY or server.NAME.KEY has the value of the other files again, whether auto.conf or a
// command has set it, and the content of auto.conf without the key, which is empty if there is no file. The empty name
// stands for all keys.
func (c *Config) Reset(name string) (*Config, string, error) {
	text, err := c.PersistedText(name, true)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Lstat(c.Paths.Auto); errors.Is(err, fs.ErrNotExist) {
		text = ""
	}
	l := loader{paths: c.sources, env: os.LookupEnv, without: &name}
	files := l.keyFiles(true)
	if len(l.errs) > 0 {
		return nil, "", errors.Join(l.errs...)
	}
	next := c.Clone()
	for e := range c.Rows() {
		full := e.FullName()
		o := c.origins[full]
		if name != "" && full != name || name == "" && o.File != SetByCommand && o.File != c.Paths.Auto {
			continue
		}
		to, _, _, _ := next.locate(full)
		if from, _, _, ok := files.locate(full); ok {
			copyField(to, from)
			next.setOrigin(full, files.origins[full])
		}
	}
	next.settle()
	return next, text, nil
}
