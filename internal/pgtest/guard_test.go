package pgtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ownerVariable makes this test binary a process that owns a cluster.
const ownerVariable = "PGTEST_OWNER"

// TestOwnerForTheGuard is the body of the process that the next test kills.
func TestOwnerForTheGuard(t *testing.T) {
	if os.Getenv(ownerVariable) == "" {
		return // not the process: there is nothing to test
	}
	c, err := Start(t.Context(), Options{Standbys: 2})
	check(t, err)
	check(t, c.Nodes[1].Pause())
	check(t, c.Nodes[2].Pause()) // and then it becomes stopped orphans
	check(t, c.Nodes[2].KillPostmasterOnly())
	for _, made := range templates.made {
		fmt.Printf("owner: %s %s\n", c.Dir, filepath.Dir(made.dir))
	}
	select {}
}

func TestNothingOutlivesAKilledOwner(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOwnerForTheGuard$")
	cmd.Env = append(os.Environ(), ownerVariable+"=1")
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	dirs := ownerDirs(t, bufio.NewScanner(out))
	if len(processesIn(dirs[0])) == 0 {
		t.Error("the owner has no server")
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	for _, dir := range dirs {
		WaitUntil(t, generous, "the guard to remove "+dir, func() bool {
			_, err := os.Stat(dir)
			return os.IsNotExist(err) && len(processesIn(dir)) == 0
		}, func() string { return fmt.Sprint("processes: ", processesIn(dir)) })
	}
}

func ownerDirs(t *testing.T, lines *bufio.Scanner) []string {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "owner: "); ok {
			return strings.Fields(rest)
		}
	}
	t.Fatal("the owner told nothing")
	return nil
}

func TestStartChoosesAnotherPortWhenItsOwnIsTaken(t *testing.T) {
	c := &Cluster{opts: Options{SuperUser: "postgres"}}
	check(t, c.prepare(t.Context()))
	defer func() { check(t, c.Close()) }()
	taken := c.Primary().Addr()
	thief, err := net.Listen("tcp", taken)
	check(t, err)
	defer func() { _ = thief.Close() }()
	check(t, c.startNodes(t.Context()))
	if c.Primary().Addr() == taken {
		t.Error("it has the port that is taken")
	}
	run(t, c.Primary(), "SELECT 1")
}

func TestDirectoryOfTheCallerStays(t *testing.T) {
	h, err := newHost(nil)
	check(t, err)
	dir, err := h.tempDir("pgtest-mine")
	check(t, err)
	defer func() { check(t, os.RemoveAll(dir)) }()
	c, err := Start(t.Context(), Options{Dir: dir})
	check(t, err)
	check(t, c.Close())
	if pids := processesIn(dir); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
	var logs strings.Builder
	c.DumpLogs(&logs)
	if !strings.Contains(logs.String(), "database system is ready") {
		t.Errorf("logs hold no start:\n%s", logs.String())
	}
}
