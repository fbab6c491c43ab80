package pool

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestProgramsAreBuiltOnceAndRemovedByTheLast(t *testing.T) {
	base := filepath.Join(t.TempDir(), "programs")
	var builds atomic.Int32
	holders := make([]*built, 4)
	var all sync.WaitGroup
	for i := range holders {
		all.Go(func() {
			var err error
			holders[i], err = buildOnce(base, "key", func(dir string) error {
				builds.Add(1)
				return os.WriteFile(filepath.Join(dir, "program"), nil, 0o755)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() || builds.Load() != 1 {
		t.Fatalf("built %d times, want once", builds.Load())
	}
	for i, b := range holders {
		if _, err := os.Stat(filepath.Join(b.dir, "program")); err != nil {
			t.Errorf("holder %d has no program: %v", i, err)
		}
		b.release()
	}
	if _, err := os.Stat(holders[0].dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the programs are left when nobody holds them: %v", err)
	}
}

// A process that was killed releases nothing, and one whose build failed must not
// leave half of it to the next.
func TestWhatKilledAndFailedBuildsLeaveIsNotUsed(t *testing.T) {
	base := filepath.Join(t.TempDir(), "programs")
	none := func(string) error { return nil }
	killed, err := buildOnce(base, "killed", none)
	if err != nil {
		t.Fatal(err)
	}
	killed.used.Close()
	why := errors.New("does not compile")
	if _, err := buildOnce(base, "key", func(string) error { return why }); !errors.Is(err, why) {
		t.Errorf("the failed build: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(base, "*", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestADirectoryOfSomebodyElseIsRefused(t *testing.T) {
	base := filepath.Join(t.TempDir(), "programs")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := buildOnce(base, "key", func(string) error { return nil }); err == nil {
		t.Error("programs were built where everybody may write")
	}
}
