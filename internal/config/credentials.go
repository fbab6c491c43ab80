package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// CredentialState returns a text that differs after each change of a credential file or of the master key, also if a
// file was replaced by another one. It reads no file. It is empty if the configuration wasn't read from files.
func (c *Config) CredentialState() (string, error) {
	text, _, err := c.credentialState()
	return text, err
}

// CredentialsRead returns the CredentialState from which the credentials of c were read. It is empty if a file was so
// new then that a later change of it might not show.
func (c *Config) CredentialsRead() string { return c.credentialsRead }

// credentialState also returns when the latest change was.
func (c *Config) credentialState() (text string, latest time.Time, err error) {
	if c.sources.Config == "" {
		return "", latest, nil
	}
	var b strings.Builder
	note := func(path string) (there bool, err error) {
		info, err := os.Stat(path)
		if path == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%q %d %d %d %v %v\n", path, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
		if changed := time.Unix(st.Ctim.Unix()); changed.After(latest) {
			latest = changed
		}
		return true, nil
	}
	some := false
	for _, path := range []string{c.sources.Users, c.sources.Frontend, c.sources.Admins, c.sources.Superuser} {
		there, err := note(path)
		if err != nil {
			return "", latest, err
		}
		some = some || there
	}
	key := cmp.Or(c.keyPath, c.sources.MasterKey)
	if k, err := FindKeyFile(c.User); some && key == "" && err == nil {
		key = k.Path
	}
	_, err = note(key)
	return b.String(), latest, err
}

// PassedCredentials returns the files in use that the service manager passed, each once: the master key and files of TLS.
// They are copies of the time of the start; a later change of what they were made of doesn't reach them.
func (c *Config) PassedCredentials() []string {
	dir := os.Getenv(CredentialsVariable)
	if !filepath.IsAbs(dir) {
		return nil
	}
	used := []string{c.keyPath, c.MetricsCertFile, c.MetricsKeyFile, c.MetricsCAFile, c.TLSCAFile, c.TLSCRLFile}
	used = append(append(used, commaList(c.TLSCertFile)...), commaList(c.TLSKeyFile)...)
	for i := range c.Servers {
		s := &c.Servers[i]
		used = append(used, s.TLSCertFile, s.TLSKeyFile, s.TLSCAFile, s.TLSCRLFile)
	}
	slices.Sort(used)
	return slices.DeleteFunc(slices.Compact(used), func(path string) bool { return !strings.HasPrefix(path, dir+"/") })
}

// settling is how long after a change of a file another one is sure to have another time.
const settling = time.Second

// noteCredentials records the state of the credential files before they are read, which is now.
func (c *Config) noteCredentials(now time.Time) {
	if text, latest, err := c.credentialState(); err == nil && now.Sub(latest) > settling {
		c.credentialsRead = text
	}
}

// CredentialsAgain returns c with the credential files as they are now; nothing else is read. A file that had entries and
// has none now is an error: it may be half written, or about to be replaced.
func (c *Config) CredentialsAgain() (*Config, error) {
	next := *c
	from, err := c.CredentialState()
	if err != nil {
		return nil, err
	}
	l := loader{paths: c.sources, env: os.LookupEnv, known: c.key}
	p := c.sources
	next.Paths.Users, next.Paths.Frontend, next.Paths.Admins, next.Paths.Superuser = p.Users, p.Frontend, p.Admins, p.Superuser
	next.Superuser, next.credentialsRead = nil, from
	l.credentials(&next)
	if len(l.errs) == 0 {
		l.errs = emptied(c, &next)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return &next, nil
}

// emptied returns the credential files that have lost all their entries.
func emptied(was, is *Config) []error {
	var errs []error
	lost := func(path string, gone bool) {
		if gone {
			errs = append(errs, &FileError{File: path, Msg: "no entry is left; put the entries back, or reload to do without them"})
		}
	}
	lost(was.Paths.Users, len(was.Users) > 0 && len(is.Users) == 0)
	lost(was.Paths.Frontend, len(was.FrontendUsers) > 0 && len(is.FrontendUsers) == 0)
	lost(was.Paths.Admins, len(was.Admins) > 0 && len(is.Admins) == 0)
	lost(was.Paths.Superuser, was.Superuser != nil && is.Superuser == nil)
	return errs
}
