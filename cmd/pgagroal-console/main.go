package main

import (
	"fmt"
	"io"
	"os"

	"github.com/pgagroal-go/pgagroal/console"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/release"
)

func main() {
	// Before anything else, since an attacker may be watching this process or its parent
	// already.
	if err := proc.Conceal(); err != nil {
		fmt.Fprintln(os.Stderr, "pgagroal-console:", err)
		os.Exit(1)
	}
	if fd, role, ok := proc.Link(); ok && role == proc.RoleConsole {
		proc.OutliveReload()
		os.Exit(console.Main(fd, release.Version()))
	}
	os.Exit(alone(os.Args[1:], os.Stdout, os.Stderr))
}

// alone is the program when it isn't pgagroal that has started it. It returns the exit code.
func alone(args []string, out, errOut io.Writer) int {
	if len(args) == 1 && (args[0] == "-V" || args[0] == "--version") {
		fmt.Fprintln(out, release.Line("pgagroal-console"))
		return 0
	}
	fmt.Fprintln(errOut, "pgagroal-console: pgagroal starts this program when the key metrics is set; see pgagroal-metrics(7)")
	return 1
}
