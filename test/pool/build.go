package pool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The test packages run side by side, each in a process of its own, and all need the
// same programs. The first process builds them, the others find them, and the last one
// removes them:
//
//	$TMPDIR/pgagroal-programs-UID/lock      held while something is built or removed
//	$TMPDIR/pgagroal-programs-UID/KEY/      the programs of the sources whose hash is KEY
//	$TMPDIR/pgagroal-programs-UID/KEY/used  shared lock of each process that runs them
//
// KEY includes the sources, so that a change of them never meets older programs.
// Reading the sources here has a second effect: go test sees it, and doesn't reuse
// cached results of earlier programs.

// buildLimit is the time limit of a build on a busy machine.
const buildLimit = 10 * time.Minute

// built is a directory of programs that this process has locked.
type built struct {
	base, dir string
	used      *os.File
}

func buildPrograms() (*built, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	key, err := sourceKey(root)
	if err != nil {
		return nil, err
	}
	base := filepath.Join(os.TempDir(), "pgagroal-programs-"+strconv.Itoa(os.Geteuid()))
	return buildOnce(base, key, func(dir string) error { return compile(root, dir) })
}

// buildOnce returns the directory of a key, and lets build fill it if no other process
// has done so. The caller releases it.
func buildOnce(base, key string, build func(dir string) error) (*built, error) {
	if err := ownDir(base); err != nil {
		return nil, err
	}
	unlock, err := lockBase(base)
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeUnused(base) // left by processes that were killed
	b := &built{base: base, dir: filepath.Join(base, key)}
	if err := b.hold(); err != nil {
		return nil, err
	}
	complete := filepath.Join(b.dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return b, nil
	}
	if err = build(b.dir); err == nil {
		err = os.WriteFile(complete, nil, 0o644)
	}
	if err != nil {
		b.used.Close()
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// moduleRoot is the directory above this one that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// notSource are directories of the module that contain no source of a program.
var notSource = []string{"bin", "contrib", "demo-data", "dist", "doc", "man", "pgtest", "test", "testdata"}

// sourceKey returns a hash of all sources of the programs.
func sourceKey(root string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, root, runtime.Version(), os.Getenv("GOFLAGS"), RaceEnabled)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != root && (slices.Contains(notSource, e.Name()) || strings.HasPrefix(e.Name(), ".")) {
			return fs.SkipDir
		}
		if !e.Type().IsRegular() || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintln(sum, path)
		_, err = io.Copy(sum, f)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil)[:8]), err
}

// ownDir makes a directory in a place where everybody may write, and refuses one that
// another user has put there.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory that only we may write to", dir)
	}
	return os.Chmod(dir, 0o755) // independent of the umask
}

// lockBase waits until no other process builds or removes programs.
func lockBase(base string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(base, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// hold prevents the removal of the directory while this process lives.
func (b *built) hold() (err error) {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if b.used, err = os.OpenFile(filepath.Join(b.dir, "used"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	return flock(b.used, syscall.LOCK_SH)
}

// release removes the programs if no other process uses them.
func (b *built) release() {
	unlock, err := lockBase(b.base)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the programs of the tests stay in", b.dir, err)
		return
	}
	defer unlock()
	b.used.Close()
	removeUnused(b.base)
}

// removeUnused removes programs that no process uses; the caller has the lock.
func removeUnused(base string) {
	marks, _ := filepath.Glob(filepath.Join(base, "*", "used")) // fails only for a malformed pattern
	for _, mark := range marks {
		f, err := os.OpenFile(mark, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if flock(f, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if err := os.RemoveAll(filepath.Dir(mark)); err != nil {
				fmt.Fprintln(os.Stderr, "remove programs of tests:", err)
			}
		}
		f.Close()
	}
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		for {
			if err = syscall.Flock(int(fd), how); !errors.Is(err, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(ctlErr, err)
}

// compile builds the programs like a release, or with the race detector if the tests
// have it. The tools have no concurrency and run hundreds of times in these tests, so
// they are built without it. internal/pbkdf says why HMAC and SHA-256 are left out.
func compile(root, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	daemons := []string{"./cmd/..."}
	if RaceEnabled {
		daemons = []string{"-race", "-gcflags=crypto/internal/fips140/sha256=-race=false", "-gcflags=crypto/internal/fips140/hmac=-race=false", "-gcflags=./internal/pbkdf=-race=false", "./cmd/..."}
	}
	for _, args := range [][]string{daemons, {"./cmd/pgagroal-admin", "./cmd/pgagroal-cli"}} {
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", dir + "/"}, args...)...)
		cmd.Dir = root
		if !RaceEnabled {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return nil
}
