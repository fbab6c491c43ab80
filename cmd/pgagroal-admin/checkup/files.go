package checkup

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

const (
	aboutFiles = "files"
	aboutUsers = "users"
)

// load reads the files, and checks what can be checked without the servers. If files can't be used, it returns what the
// main file says, without users, so that the servers can be looked at all the same; nil if not even that can be read.
func (f *findings) load(p config.Paths) *config.Config {
	c, warnings, err := config.Load(p)
	for _, w := range warnings {
		f.addWarning(aboutFiles, w)
	}
	if err != nil {
		for _, e := range each(err) {
			f.addError(aboutFiles, e)
		}
		c, err = config.LoadMain(p.Config)
		if err != nil {
			return nil
		}
		return c
	}
	errs := supervisor.Check(c)
	for _, e := range errs {
		f.addError(aboutFiles, e)
	}
	if len(errs) == 0 {
		f.add(OK, aboutFiles, c.Paths.Config, "", "all rules hold that pgagroal itself checks before it starts")
	}
	for _, w := range supervisor.Warnings(c) {
		text, do, _ := strings.Cut(w, "; ")
		f.add(Warning, aboutFiles, "", do, "%s", text)
	}
	f.account(c)
	f.users(c)
	f.machine(c)
	return c
}

// each returns the errors that were joined.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// account checks what the account of pgagroal may read: a start reads the files as root, a reload as that account.
func (f *findings) account(c *config.Config) {
	uid, gids, err := supervisor.Identity(c)
	if err != nil {
		return // reported by the supervisor's checks
	}
	if me, err := user.Current(); c.User != "" && os.Geteuid() != 0 && err == nil && me.Username != c.User {
		f.add(Warning, aboutFiles, "", "run this as root, or as "+c.User,
			"rights were checked for %s, and pgagroal runs as %s", me.Username, c.User)
		return
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	for _, path := range slices.Concat(filesOf(c), keysOf(c)) {
		if !config.MayRead(path, uid, gids) {
			f.add(Error, aboutFiles, path, fmt.Sprintf("chgrp %s it, and chmod g+r it", name),
				"%s, the account of pgagroal, can't read it, so that a reload fails even where a start as root works", name)
		}
	}
	for _, path := range keysOf(c) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			f.add(Warning, aboutFiles, path, "chmod o-rwx it", "everybody may read this private key (mode %04o)", info.Mode().Perm())
		}
	}
}

// filesOf returns the files that a reload reads, without those of private keys.
func filesOf(c *config.Config) []string {
	p := c.Paths
	list := slices.Concat([]string{p.Config, p.HBA, p.Ident, p.Limits, p.Users, p.Frontend, p.Admins, p.Superuser}, p.Included)
	for _, s := range c.Servers {
		list = append(list, s.TLSCertFile, s.TLSCRLFile)
	}
	list = append(list, strings.Split(c.TLSCertFile, ",")...)
	return existing(append(list, c.TLSCAFile, c.TLSCRLFile, c.MetricsCertFile, c.MetricsCAFile))
}

// keysOf returns the files of private keys.
func keysOf(c *config.Config) []string {
	list := append(strings.Split(c.TLSKeyFile, ","), c.MetricsKeyFile)
	for _, s := range c.Servers {
		list = append(list, s.TLSKeyFile)
	}
	return existing(list)
}

// existing returns each path that is there, once. What is missing is the business of other checks.
func existing(paths []string) []string {
	var list []string
	for _, p := range paths {
		p = strings.TrimSpace(p)
		if _, err := os.Stat(p); p != "" && !errors.Is(err, os.ErrNotExist) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// users looks for users that rules and limits name and that can't log in, or only by the server's word.
func (f *findings) users(c *config.Config) {
	told := map[string]bool{}
	for _, r := range c.HBA {
		if r.Method == "reject" || r.Method == "trust" || r.Method == "cert" {
			continue
		}
		for _, name := range r.User.List {
			f.unknownUser(c, told, placeOf(r.File, r.Line), name)
		}
	}
	for _, l := range c.Limits {
		for _, name := range l.User.List {
			f.unknownUser(c, told, placeOf(c.Paths.Limits, l.Line), name)
		}
	}
	for _, u := range c.Users {
		if u.Password == "" {
			f.add(Warning, aboutUsers, c.Paths.Users, "pgagroal-admin user edit -U "+u.Name, "the password of %s is empty", u.Name)
		}
	}
}

func (f *findings) unknownUser(c *config.Config, told map[string]bool, where, name string) {
	known := slices.ContainsFunc(c.Users, func(u config.Credential) bool { return u.Name == name })
	if known || told[name] || c.AuthQuery || c.Superuser != nil && c.Superuser.Name == name {
		return
	}
	told[name] = true
	do := fmt.Sprintf("pgagroal-admin -f %s user add -U %s", c.Paths.UsersFile(), name)
	if !c.AllowUnknownUsers {
		f.add(Warning, aboutUsers, where, do, "%s has no entry in the users file, and allow_unknown_users is off: nobody can log in by that name", name)
		return
	}
	f.add(Note, aboutUsers, where, do,
		"%s has no entry in the users file: only the server knows the password, so the connection stays with its client until it leaves", name)
}
