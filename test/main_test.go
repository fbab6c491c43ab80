package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// programs is where TestMain has built the programs under test.
var programs string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the programs, with the race detector when the tests have it, and
// puts them where the user that they run as can reach them.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pgagroal-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	race := "-race=" + strconv.FormatBool(raceEnabled)
	// The tools do one thing after another, hundreds of times in these tests. Watched
	// for races pgagroal-admin alone takes seconds to derive the master key.
	for _, args := range [][]string{{race, "../cmd/..."}, {"../cmd/pgagroal-admin", "../cmd/pgagroal-cli"}} {
		if out, err := exec.Command("go", append([]string{"build", "-o", dir + "/"}, args...)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			return 1
		}
	}
	programs = dir
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func program(name string) string { return filepath.Join(programs, name) }
