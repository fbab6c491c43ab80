package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// archive is make dist of the last commit in this directory.
func archive(t testing.TB, dir string) string {
	t.Helper()
	must(t, "../..", "make", "dist", "VERSION="+version, "DIST="+dir)
	return filepath.Join(dir, "pgagroal-go-"+version+".tar.gz")
}

// build is what somebody types who has nothing but the archive and Go. A git that is called leaves a file, and no module
// was ever downloaded.
const build = `
set -e
for v in VERSION COMMIT SOURCE_DATE_EPOCH; do unset "$v"; done
mkdir "$1/bin" "$1/modules"
printf '#!/bin/sh\ntouch "%s/git"\nexit 1\n' "$1" >"$1/bin/git"
chmod 755 "$1/bin/git"
export PATH="$1/bin:$PATH" GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local GOMODCACHE="$1/modules"
make build
make install DESTDIR="$1/root" PREFIX=/usr
`

// TestTheArchiveBuildsWithoutGitAndNetwork: and what it builds is of the same version and commit.
func TestTheArchiveBuildsWithoutGitAndNetwork(t *testing.T) {
	packed := archive(t, t.TempDir())
	first, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(archive(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("two archives of the same commit differ: %d and %d bytes", len(first), len(second))
	}
	dir, place := t.TempDir(), t.TempDir()
	must(t, dir, "tar", "-xzf", packed)
	alone := []string{"sh", "-c", build, "sh", place}
	if os.Geteuid() == 0 {
		alone = append([]string{"unshare", "--net"}, alone...)
	}
	must(t, filepath.Join(dir, "pgagroal-go-"+version), alone[0], alone[1:]...)
	if _, err := os.Stat(filepath.Join(place, "git")); !os.IsNotExist(err) {
		t.Errorf("git was called: %v", err)
	}
	programs, err := filepath.Glob(filepath.Join(place, "root/usr/bin/*"))
	if err != nil || len(programs) != 5 {
		t.Fatalf("programs %q, %v", programs, err)
	}
	for _, p := range programs {
		if out := must(t, ".", p, "--version"); out != printed(filepath.Base(p), runtime.GOARCH) {
			t.Errorf("%s --version: %q", filepath.Base(p), out)
		}
	}
}
