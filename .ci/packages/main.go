package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// order is what one package is made of.
type order struct {
	format  string // deb or rpm
	arch    string // as Go names it
	version string // as git describe prints it, without the v
	root    string // what make install has written
	source  string // the checkout
	out     string // directory of the package
	time    time.Time
	work    string // for files that are made on the way
}

func main() {
	o := order{}
	flag.StringVar(&o.format, "format", "deb", "deb or rpm")
	flag.StringVar(&o.arch, "arch", "amd64", "architecture, as Go names it")
	flag.StringVar(&o.version, "version", "", "version, as git describe prints it")
	flag.StringVar(&o.root, "root", "", "what make install has written")
	flag.StringVar(&o.source, "source", "../..", "the checkout")
	flag.StringVar(&o.out, "out", "", "directory of the package")
	flag.Parse()
	path, err := o.fill()
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

// fill makes the package and returns its path.
func (o *order) fill() (path string, err error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return "", fmt.Errorf("SOURCE_DATE_EPOCH must be the time of the sources: %w", err)
	}
	o.time = time.Unix(seconds, 0).UTC()
	if o.work, err = os.MkdirTemp("", "pgagroal-package"); err != nil {
		return "", err
	}
	defer os.RemoveAll(o.work)
	info, err := o.info()
	if err != nil {
		return "", err
	}
	packager, err := nfpm.Get(o.format)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(o.out, packager.ConventionalFileName(info))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(packager.Package(info, f), f.Close())
}

// info is nfpm.yaml with the version and the files.
func (o *order) info() (*nfpm.Info, error) {
	conf, err := nfpm.ParseFile("nfpm.yaml")
	if err != nil {
		return nil, err
	}
	info, err := conf.Get(o.format)
	if err != nil {
		return nil, err
	}
	info.Arch, info.Version, info.MTime = o.arch, packageVersion(o.version), o.time
	if info.Contents, err = o.contents(); err != nil {
		return nil, err
	}
	if info.Changelog, err = o.changelog(info); err != nil {
		return nil, err
	}
	return nfpm.WithDefaults(info), nil
}

// since is what git describe adds to the last tag.
var since = regexp.MustCompile(`-(\d+)-(g[0-9a-f]+)`)

// packageVersion writes a version as dpkg and rpm order it: a pre-release before its release, commits after a tag behind it.
func packageVersion(version string) string {
	v := since.ReplaceAllString(version, "+$1.$2")
	v = strings.Replace(v, "-dirty", "+dirty", 1)
	v = strings.ReplaceAll(v, "-", "~")
	if v == "" || v[0] < '0' || v[0] > '9' {
		return "0.0.0~" + v
	}
	return v
}
