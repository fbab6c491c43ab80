package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// programs is where Main has put the programs under test. Only Main writes it,
// before the first test.
var programs string

// Main is TestMain of every package that starts pgagroal: it builds the programs,
// runs the tests and fails them if a goroutine is left.
func Main(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	b, err := buildPrograms()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	defer b.release()
	programs = b.dir
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Program is the path of one of our programs, where the user that it runs as can
// reach it.
func Program(name string) string { return filepath.Join(programs, name) }
