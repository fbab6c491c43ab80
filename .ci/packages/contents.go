package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2/files"
)

const docs = "/usr/share/doc/pgagroal-go"

// extra are files that only packages have.
var extra = map[string][]files.Content{
	"": {
		{Source: "etc/pgagroal.conf", Destination: "/etc/pgagroal/pgagroal.conf", Type: files.TypeConfigNoReplace},
		{Source: "etc/pgagroal_hba.conf", Destination: "/etc/pgagroal/pgagroal_hba.conf", Type: files.TypeConfigNoReplace},
		{Source: "/etc/pgagroal/hooks.conf", Destination: "/usr/lib/pgagroal/hooks/hooks.conf", Type: files.TypeSymlink},
	},
	"deb": {
		{Source: "etc/needrestart.conf", Destination: "/etc/needrestart/conf.d/pgagroal.conf", Type: files.TypeConfig},
		{Source: "lintian-overrides", Destination: "/usr/share/lintian/overrides/pgagroal-go"},
	},
}

// debianPlaces are directories that have another name in Debian.
var debianPlaces = strings.NewReplacer(
	"/usr/lib/systemd/system/", "/lib/systemd/system/",
	"/usr/share/zsh/site-functions/", "/usr/share/zsh/vendor-completions/",
)

// contents lists the files of the package in the order of their names.
func (o *order) contents() (files.Contents, error) {
	var list files.Contents
	err := filepath.WalkDir(o.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		c, err := o.installed(path)
		if c != nil {
			list = append(list, c)
		}
		return err
	})
	for _, c := range slices.Concat(extra[""], extra[o.format]) {
		list = append(list, &c)
	}
	made, err2 := o.texts()
	list = append(list, made...)
	for _, c := range list {
		if c.FileInfo == nil {
			c.FileInfo = &files.ContentFileInfo{Mode: 0o644}
		}
		c.FileInfo.Owner, c.FileInfo.Group, c.FileInfo.MTime = "root", "root", o.time
		c.Type = cmp.Or(c.Type, o.typeOf(c.Destination))
	}
	list = append(list, o.directories(list)...)
	slices.SortFunc(list, func(a, b *files.Content) int { return cmp.Compare(a.Destination, b.Destination) })
	return list, errors.Join(err, err2)
}

// installed is a file that make install has written, nil if the package doesn't take it.
func (o *order) installed(path string) (*files.Content, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	dst := strings.TrimPrefix(path, filepath.Clean(o.root))
	c := &files.Content{Source: path, Destination: dst, FileInfo: &files.ContentFileInfo{Mode: info.Mode().Perm()}}
	switch {
	case o.format == "deb" && dst == docs+"/LICENSE": // it is in the file copyright
		return nil, nil
	case strings.HasPrefix(dst, "/usr/share/man/"):
		c.Destination += ".gz"
		c.Source, err = o.compressed(path)
	}
	if o.format == "deb" {
		c.Destination = debianPlaces.Replace(c.Destination)
	}
	return c, err
}

// typeOf marks documentation and licences for rpm.
func (o *order) typeOf(dst string) string {
	switch {
	case o.format != "rpm":
		return files.TypeFile
	case strings.HasPrefix(dst, "/usr/share/man/") || strings.HasPrefix(dst, docs):
		return files.TypeRPMDoc
	}
	return files.TypeFile
}

// directories are those that only this package has, so that they go with it.
func (o *order) directories(list files.Contents) files.Contents {
	seen := map[string]bool{}
	var dirs files.Contents
	for _, c := range list {
		for dir := filepath.Dir(c.Destination); strings.Contains(dir, "pgagroal") && !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			dirs = append(dirs, &files.Content{Destination: dir, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{
				Owner: "root", Group: "root", Mode: 0o755, MTime: o.time,
			}})
		}
	}
	return dirs
}

// compressed writes a copy that gzip made, without name and time.
func (o *order) compressed(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // this level exists
	if _, err := z.Write(b); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return o.write(filepath.Base(path)+".gz", out.Bytes())
}

func (o *order) write(name string, content []byte) (string, error) {
	path := filepath.Join(o.work, name)
	return path, os.WriteFile(path, content, 0o644)
}
