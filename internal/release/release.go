// Package release says which pgagroal a program is of. The linker sets the values, the same ones for all five
// programs; the Makefile says where they come from.
package release

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Set by the linker. A program that was built without them is "devel" of an unknown commit.
var (
	version = "devel"
	commit  string // the hash of the sources; "-dirty" follows it if they had been changed
	date    string // when the commit was made, in seconds since 1970
)

// Version is what control documents, metrics and the log call this pgagroal, such as 1.2.3.
func Version() string { return version }

// Line is what --version prints:
//
//	pgagroal 1.2.3 (commit 0a1b2c3d4e5f, 2027-01-31, go1.26.0 linux/amd64)
//
// The date is that of the commit, not that of the build, so that two builds of the same sources are equal.
func Line(program string) string {
	var build []string
	if commit != "" {
		build = append(build, "commit "+commit)
	}
	if seconds, err := strconv.ParseInt(date, 10, 64); err == nil {
		build = append(build, time.Unix(seconds, 0).UTC().Format(time.DateOnly))
	}
	build = append(build, runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	return fmt.Sprintf("%s %s (%s)", program, version, strings.Join(build, ", "))
}
