package upgrade

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestMain(m *testing.M) {
	pool.Main(m)
}

// versions are the builds that upgrades install in turn.
var versions = [...]string{"8.0.1", "8.0.2"}

// builds makes them, once for all tests.
var builds = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(filepath.Dir(pool.Program("pgagroal")), "versions") // removed with the other programs
	if err != nil {
		return "", err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	ctx, done := context.WithTimeout(context.Background(), 10*time.Minute)
	defer done()
	for _, v := range versions {
		args := []string{"build", "-ldflags", "-X github.com/pgagroal-go/pgagroal/internal/release.version=" + v, "-o", filepath.Join(dir, v)}
		if pool.RaceEnabled {
			args = append(args, "-race", "-gcflags=crypto/internal/fips140/sha256=-race=false", "-gcflags=crypto/internal/fips140/hmac=-race=false", "-gcflags=./internal/pbkdf=-race=false")
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/pgagroal")...)
		cmd.Dir = root
		if !pool.RaceEnabled {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
	}
	return dir, nil
})

// build returns the program of a version.
func build(t testing.TB, version string) string {
	t.Helper()
	dir, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, version)
}

// install puts a file in the place of the program of a pool, as a package does: the old file
// lives on as long as it runs.
func install(t testing.TB, p *pool.Pool, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// A process that another test starts meanwhile would have the file open for a moment, and then nobody may execute it.
	syscall.ForkLock.RLock()
	out, err := os.OpenFile(program(p)+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
		out.Close()
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		err = os.Rename(program(p)+".new", program(p))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// program is in a directory that only the user of the test can write to: for worker_user only root may.
func program(p *pool.Pool) string {
	return filepath.Join(os.TempDir(), "installed-"+filepath.Base(p.Dir), "pgagroal")
}

// installed has a prepared pool run from a place of its own, with the first version.
func installed(t testing.TB, p *pool.Pool) {
	t.Helper()
	dir := filepath.Dir(program(p))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	install(t, p, build(t, versions[0]))
	p.Adjust = func(cmd *exec.Cmd) { cmd.Path, cmd.Args[0] = program(p), program(p) }
}
