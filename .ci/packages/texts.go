package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/chglog"
	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/files"
	"go.yaml.in/yaml/v3"
)

// texts are the files that are made of what the programs are linked from.
func (o *order) texts() (files.Contents, error) {
	copyright, err := o.copyright()
	if err != nil {
		return nil, err
	}
	list := files.Contents{{Source: copyright, Destination: docs + "/copyright"}}
	programs, err := filepath.Glob(filepath.Join(o.root, "usr/bin/*"))
	if err != nil || len(programs) == 0 {
		return nil, fmt.Errorf("no programs in %s: %w", o.root, err)
	}
	for _, p := range programs {
		path, err := o.components(p)
		if err != nil {
			return nil, err
		}
		list = append(list, &files.Content{Source: path, Destination: docs + "/sbom/" + filepath.Base(path)})
	}
	return list, nil
}

// run returns what a command prints, run in the checkout for the architecture of the package.
func (o *order) run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stderr = o.source, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+o.arch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, nil
}

// module is one that the programs are linked from.
type module struct{ Path, Version, Dir string }

// modules lists them in the order of their names; the first is Go's own library.
func (o *order) modules() ([]module, error) {
	out, err := o.run("go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}`, "./cmd/...")
	if err != nil {
		return nil, err
	}
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool { return l == "" })
	slices.Sort(lines)
	goroot, err := o.run("go", "env", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	root, version, _ := strings.Cut(strings.TrimSpace(string(goroot)), "\n")
	list := []module{{"The Go standard library", version, root}}
	for _, l := range slices.Compact(lines) {
		m := module{}
		if _, err := fmt.Sscan(l, &m.Path, &m.Version, &m.Dir); err != nil {
			return nil, fmt.Errorf("module %q: %w", l, err)
		}
		list = append(list, m)
	}
	return list, nil
}

// licenceFile is the name of a file that has to go with the programs.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// copyright writes the licence of pgagroal and those of all modules that are linked into its programs. A module without
// one is an error, because it couldn't be shipped.
func (o *order) copyright() (string, error) {
	modules, err := o.modules()
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile(filepath.Join(o.source, "LICENSE"))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "pgagroal-go\n\n%s\n\nThe programs of this package are linked from these modules as well.\n", own)
	for _, m := range modules {
		entries, err := os.ReadDir(m.Dir)
		if err != nil {
			return "", err
		}
		entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.IsDir() || !licenceFile.MatchString(e.Name()) })
		if len(entries) == 0 {
			return "", fmt.Errorf("%s has no licence in %s", m.Path, m.Dir)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "\n%s\n%s %s, %s\n\n%s\n", strings.Repeat("-", 80), m.Path, m.Version, e.Name(), bytes.TrimSpace(text))
		}
	}
	return o.write("copyright", bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")))
}

// components writes the list of a program's modules for whoever looks for vulnerabilities (CycloneDX). Its serial number
// follows from its content, and its time is that of the sources.
func (o *order) components(program string) (string, error) {
	tool, err := exec.Command("go", "tool", "-n", "cyclonedx-gomod").Output()
	if err != nil {
		return "", fmt.Errorf("find cyclonedx-gomod: %w", err)
	}
	out, err := o.run(strings.TrimSpace(string(tool)), "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", "v"+o.version, program)
	if err != nil {
		return "", err
	}
	var bom map[string]any
	if err := json.Unmarshal(out, &bom); err != nil {
		return "", fmt.Errorf("read the list of components: %w", err)
	}
	meta, ok := bom["metadata"].(map[string]any)
	if !ok {
		return "", errors.New("the list of components has no metadata")
	}
	sum := sha256.Sum256(out)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // a UUID of version 8
	bom["serialNumber"] = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	meta["timestamp"] = o.time.Format(time.RFC3339)
	text, err := json.MarshalIndent(bom, "", "  ")
	if err != nil {
		return "", err
	}
	return o.write(filepath.Base(program)+".cdx.json", append(text, '\n'))
}

// changelog writes the changelog in the form of both packagers; CHANGELOG.md, which is installed, says what changed.
func (o *order) changelog(info *nfpm.Info) (string, error) {
	entry := &chglog.ChangeLog{
		Semver: info.Version + "-" + info.Release, Date: o.time, Packager: info.Maintainer,
		Changes: chglog.ChangeLogChanges{&chglog.ChangeLogChange{Note: "See CHANGELOG.md for what is new."}},
	}
	entry.Deb = &chglog.ChangelogDeb{Urgency: "medium", Distributions: []string{"stable"}}
	text, err := yaml.Marshal(chglog.ChangeLogEntries{entry})
	if err != nil {
		return "", err
	}
	return o.write("changelog.yaml", text)
}
