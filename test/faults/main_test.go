package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

var (
	write  = flag.Bool("write", false, "run with the default times and put the tables into doc/FAILOVER.md")
	rounds = flag.Int("rounds", 3, "how often -write runs each fault")
	repeat = flag.Int("repeat", 2, "how often each disturbance that must not start a script is repeated; more than 2 adds the slow ones")
)

// programs is where TestMain has built the programs under test.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run builds the programs, with the race detector when the tests have it, where
// the user that they run as can reach them.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pgagroal-bin")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{"build"}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, "-o", dir+"/", "../../cmd/...")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
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

// needNetworks skips a test where it can't make networks.
func needNetworks(t *testing.T) {
	t.Helper()
	if err := pgtest.NoNetns(); err != nil {
		t.Skip(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
