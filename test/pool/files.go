package pool

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Must fails the test for an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ServingUser returns the user that pgagroal and its scripts run as: postgres if the
// tests run as root, otherwise the present user.
func ServingUser(t testing.TB) *syscall.Credential {
	t.Helper()
	c, err := pgtest.Credential()
	Must(t, err)
	return c
}

// Give makes the serving user the owner of a path.
func Give(t testing.TB, path string) {
	t.Helper()
	if c := ServingUser(t); c != nil {
		if err := os.Lchown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// privateDir returns a short directory that the serving user owns.
func privateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pga")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	Give(t, dir)
	return dir
}

// WriteFile writes a file that the serving user owns.
func WriteFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	Give(t, path)
}

// WriteFiles writes files below dir, by name, and the directories that they are in.
func WriteFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if sub := filepath.Dir(path); sub != dir {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			Give(t, sub)
		}
		WriteFile(t, path, text, 0o644)
	}
}
