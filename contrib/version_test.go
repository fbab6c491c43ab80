package contrib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources is a directory with the Makefile and a changelog, which git may know.
type sources struct {
	t   testing.TB
	dir string
}

func (s sources) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// run runs a command without anything of the environment that would decide instead of the sources.
func (s sources) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=@1700000000 +0000", "GIT_COMMITTER_DATE=@1700000000 +0000",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

var linked = regexp.MustCompile(`release\.version=(\S*) .*release\.commit=(\S*) .*release\.date=(\d*)`)

// want compares what make build would link into the programs.
func (s sources) want(what, version, commit, date string) {
	s.t.Helper()
	got := linked.FindStringSubmatch(s.run("make", "-n", "build"))
	if got == nil || got[1] != version || got[2] != commit || got[3] != date {
		s.t.Errorf("%s: %q; want %s %s %s", what, got, version, commit, date)
	}
}

func TestSourcesKnowTheirVersion(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	around := sources{t, t.TempDir()} // a repository of something else, in which the sources are unpacked
	around.run("git", "init", "-q")
	around.run("git", "commit", "-q", "--allow-empty", "-m", "something else")
	around.run("git", "tag", "v99.0")
	s := sources{t, filepath.Join(around.dir, "pgagroal")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("Makefile", string(makefile))
	s.write("CHANGELOG.md", "# Changelog\n\n## [3.1.0] - unreleased\n\n## [3.0.0] - 2027-01-31\n")
	s.want("before a release, without git", "3.1.0-dev", "", "")
	s.write("CHANGELOG.md", "# Changelog\n\n## [3.1.0] - 2027-03-01\n\n## [3.0.0] - 2027-01-31\n")
	s.want("a release without git", "3.1.0", "", "")

	s.run("git", "init", "-q")
	s.run("git", "add", ".")
	s.run("git", "commit", "-q", "-m", "one")
	one := s.run("git", "rev-parse", "--short=12", "HEAD")
	s.want("a commit without a tag", "3.1.0", one, "1700000000")
	s.run("git", "tag", "tested") // says nothing about a version
	s.run("git", "tag", "v3.1.0-rc1")
	s.want("a tag", "3.1.0-rc1", one, "1700000000")
	s.run("git", "commit", "-q", "--allow-empty", "-m", "two")
	two := s.run("git", "rev-parse", "--short=12", "HEAD")
	s.want("a commit after a tag", "3.1.0-rc1-1-g"+s.run("git", "rev-parse", "--short", "HEAD"), two, "1700000000")
	s.run("git", "tag", "v3.1.0")
	s.write("CHANGELOG.md", "changed\n")
	s.want("changed sources", "3.1.0-dirty", two+"-dirty", "1700000000")
	if os.Geteuid() == 0 {
		s.run("chown", "-R", "65534", s.dir)
		s.want("a checkout of another user", "3.1.0-dirty", two+"-dirty", "1700000000")
	}

	s.write("dist.version", "4.0.0\n")
	s.write("dist.commit", "0123456789ab\n")
	s.write("dist.time", "1800000000\n")
	s.want("a release archive", "4.0.0", "0123456789ab", "1800000000")
}

// TestChangelogSaysNothingTwice finds what a merge leaves of two versions of a line.
func TestChangelogSaysNothingTwice(t *testing.T) {
	text, err := os.ReadFile("../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	const beginning = 40
	at := map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		if len(line) < beginning {
			continue
		}
		head := line[:beginning]
		if first := at[head]; first != 0 {
			t.Errorf("line %d begins as line %d: %s", i+1, first, head)
		}
		at[head] = i + 1
	}
}
