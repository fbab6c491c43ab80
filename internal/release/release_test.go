package release

import (
	"runtime"
	"testing"
)

func TestLineHasWhatTheLinkerHasSet(t *testing.T) {
	here := runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	defer func(v, c, d string) { version, commit, date = v, c, d }(version, commit, date)
	for _, c := range []struct{ version, commit, date, want string }{
		{"devel", "", "", "pgagroal devel (" + here + ")"},
		{"1.2.3", "0a1b2c3d4e5f", "1801396800", "pgagroal 1.2.3 (commit 0a1b2c3d4e5f, 2027-01-31, " + here + ")"},
		{"1.2.3-dev", "0a1b2c3d4e5f-dirty", "no time", "pgagroal 1.2.3-dev (commit 0a1b2c3d4e5f-dirty, " + here + ")"},
	} {
		version, commit, date = c.version, c.commit, c.date
		if got := Line("pgagroal"); got != c.want || Version() != c.version {
			t.Errorf("%q and %q, not %q", got, Version(), c.want)
		}
	}
}
