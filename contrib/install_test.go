package contrib_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var programs = []string{"pgagroal", "pgagroal-cli", "pgagroal-admin", "pgagroal-scriptrunner", "pgagroal-console"}

// installed runs make install with this PREFIX, for programs that are empty files, and
// returns the directory that stands for the root.
func installed(t *testing.T, prefix string) (root string) {
	t.Helper()
	tree, root := t.TempDir(), t.TempDir()
	for _, dir := range []string{"contrib", "doc", "man"} {
		if err := os.CopyFS(filepath.Join(tree, dir), os.DirFS("../"+dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"Makefile", "README.md", "CHANGELOG.md", "LICENSE", "pgagroal.conf.sample"} {
		b, err := os.ReadFile("../" + file)
		if err == nil {
			err = os.WriteFile(filepath.Join(tree, file), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(tree, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(tree, "bin", p), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("make", "-C", tree, "install", "DESTDIR="+root, "PREFIX="+prefix)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

// ourPlace is a path that an installed text names below a prefix.
var ourPlace = regexp.MustCompile(`(?:/usr/local|/usr|/opt/pool)/(?:bin/pgagroal|(?:lib|share|share/doc)/pgagroal)[\w./-]*`)

// target is where a link of a document leads.
var target = regexp.MustCompile(`\]\(([^)#]+)\)`)

// TestInstalledTextsNameWhatIsInstalled looks up each path and each link of all texts
// that make install has written.
func TestInstalledTextsNameWhatIsInstalled(t *testing.T) {
	for _, prefix := range []string{"/usr/local", "/usr", "/opt/pool"} {
		t.Run(prefix, func(t *testing.T) {
			root, named := installed(t, prefix), map[string]int{}
			err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				for _, place := range ourPlace.FindAllString(string(b), -1) {
					if !strings.HasPrefix(place, prefix+"/") {
						t.Errorf("%s names %s", path, place)
					}
					lookUp(t, path, root+strings.TrimRight(place, "."))
					named[filepath.Base(path)]++
				}
				if filepath.Ext(path) == ".md" {
					links(t, root, path, string(b))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"pgagroal.service", "pgagroal-scriptrunner.service", "pgagroal-hooks.7", "pgagroal.conf.5", "FAILOVER.md"} {
				if named[name] == 0 {
					t.Errorf("%s names no place any more: correct this test", name)
				}
			}
		})
	}
}

// links looks up the links of a document.
func links(t *testing.T, root, path, text string) {
	t.Helper()
	for _, m := range target.FindAllStringSubmatch(text, -1) {
		switch to := m[1]; {
		case strings.Contains(to, "://"):
		case filepath.IsAbs(to):
			lookUp(t, path, root+to)
		default:
			lookUp(t, path, filepath.Join(filepath.Dir(path), to))
		}
	}
}

// lookUp also takes a file that the reader makes of an installed sample.
func lookUp(t *testing.T, from, path string) {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil {
		_, err = os.Stat(path + ".sample")
	}
	if err != nil {
		t.Errorf("%s names what isn't there: %v", from, err)
	}
}

// TestLinksOfTheCheckoutLeadSomewhere looks up the links of the documents as they are.
func TestLinksOfTheCheckoutLeadSomewhere(t *testing.T) {
	docs, err := filepath.Glob("../doc/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatal("no documents", err)
	}
	for _, d := range append(docs, "../README.md", "../CHANGELOG.md") {
		b, err := os.ReadFile(d)
		if err != nil {
			t.Fatal(err)
		}
		links(t, "", d, string(b))
	}
}
