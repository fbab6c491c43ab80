package proc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// plants are what somebody may put where a file is about to be made, each leading to victim.
var plants = map[string]func(victim, path string) error{
	"a symbolic link":           os.Symlink,
	"a hard link":               os.Link,
	"a link that leads nowhere": func(victim, path string) error { return os.Symlink(victim+"2", path) },
}

func TestANewFileIsWrittenThroughNoLink(t *testing.T) {
	for name, plant := range plants {
		dir := t.TempDir()
		victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "new")
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), plant(victim, path)); err != nil {
			t.Fatal(err)
		}
		f, err := NewFile(path, 0o600)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := f.WriteString("new"); err != nil {
			t.Error(err)
		}
		f.Close()
		got, err := os.ReadFile(path)
		old, verr := os.ReadFile(victim)
		if err != nil || verr != nil || string(got) != "new" || string(old) != "precious" {
			t.Errorf("%s: the file holds %q, %v, and the victim %q, %v", name, got, err, old, verr)
		}
		if _, err := os.Lstat(victim + "2"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it was followed: %v", name, err)
		}
	}
}

// TestWhatIsPutThereMeanwhileIsNotWrittenTo plants after the old file was removed.
func TestWhatIsPutThereMeanwhileIsNotWrittenTo(t *testing.T) {
	for name, plant := range plants {
		dir := t.TempDir()
		victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "new")
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), plant(victim, path)); err != nil {
			t.Fatal(err)
		}
		if f, err := createOnly(path, 0o600); !errors.Is(err, fs.ErrExist) {
			f.Close()
			t.Errorf("%s: %v", name, err)
		}
	}
}
