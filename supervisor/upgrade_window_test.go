package supervisor

import (
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// A trial reads the state of the pgagroal that runs. What it can't read, because it is of another
// version, stays where it is: the one that runs goes on with it.
func TestTrialLeavesTheStateWhereItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pgagroal.state", "pgagroal.state.copy"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"version": 99}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := names(t, dir)
	c := config.New()
	c.Servers = []config.Server{{Name: "one", Host: "127.0.0.1", Port: 5001, Primary: true}}
	// as Try does
	_, err := goingOn(Options{Config: c, Log: slog.New(slog.DiscardHandler)}, &heritage{}, statedir.Dir{Path: dir, Usable: true})
	t.Log(err)
	if now := names(t, dir); !maps.Equal(now, before) {
		t.Errorf("the state was %v, and is %v", before, now)
	}
}

func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range list {
		found[e.Name()] = true
	}
	return found
}

// upgradable is a supervisor that may be upgraded.
func upgradable(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	u := &w.s.service.upgrade
	w.s.service.ready, w.s.clients.ports.open, u.program, w.s.dir.Ours = true, &listen.Sockets{}, "/bin/true", true
	w.s.clients.gate.Set(false)
	w.s.workers.spawning = 0
	if why := w.s.cannotUpgrade() + w.s.moves(); why != "" {
		t.Fatal(why)
	}
	return w
}

// A shutdown that begins while everything stands still is not forgotten: no program is executed.
func TestShutdownDuringAStandstillEndsIt(t *testing.T) {
	w := upgradable(t)
	w.s.stop.mode = stopGraceful
	if w.s.moves() == "" {
		t.Error("the next program would be executed, and know nothing of the shutdown")
	}
}

// The time limit of a graceful flush doesn't outlive this program, so an upgrade has to wait.
func TestNoUpgradeWhileAFlushHasATimeLimit(t *testing.T) {
	w := upgradable(t)
	w.s.limitFlush("", 1000)
	if w.s.cannotUpgrade() == "" {
		t.Error("the limit would be forgotten")
	}
}

// What the machine publishes between the last look at the books and the exec opens nothing: the books of the next program
// would not have what is taken back then.
func TestTheLedgerStaysClosedUntilTheExec(t *testing.T) {
	w := upgradable(t)
	key := pool.Key{Database: "db", User: "u"}
	snap := w.s.servers.snapshot
	snap.Open = true
	w.s.publish(snap)
	if len(w.s.ledger.Request(0, 1, key, pool.NoRule, 0)) == 0 {
		t.Fatal("an open primary opens nothing")
	}
	w.s.service.upgrade.closing = true
	snap.Open = false
	w.s.publish(snap)
	snap.Open = true
	w.s.publish(snap)
	if granted := w.s.ledger.Request(0, 2, key, pool.NoRule, 0); len(granted) > 0 {
		t.Error("the Ledger is open although the program is about to be executed")
	}
}

// The service manager's watchdog doesn't wait for two halves of its interval and the execution.
func TestWatchdogIsToldAtOnceAfterAnUpgrade(t *testing.T) {
	w := newWorld(t, 1)
	var said []string
	w.s.env.notify = func(text string) { said = append(said, text) }
	w.s.service.watchdog = 30e9
	w.s.beginAgain(&heritage{})
	if !strings.Contains(strings.Join(said, "\n"), "WATCHDOG=1") {
		t.Errorf("the service manager has heard %q", said)
	}
}

// The next program counts on from what all processes have logged, so that no counter falls.
func TestHeritageHasTheLinesOfEveryProcess(t *testing.T) {
	w := upgradable(t)
	w.s.console.figures.logged = lineCounts{1, 2, 3, 4}
	before := logline.Lines(w.s.log)
	h, err := w.s.makeHeritage(true)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range w.s.console.figures.logged {
		if h.Lines[i] < before[i]+n {
			t.Errorf("level %d: %d lines are handed over, of %d and %d", i, h.Lines[i], before[i], n)
		}
	}
}

// Between the trial and the exec somebody may save a file, which the next program reads first of all.
func TestFilesThatChangeAfterTheTrialEndTheUpgrade(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	u := &w.s.service.upgrade
	u.program = "/bin/true"
	var err error
	if u.tried, err = os.Stat(u.program); err != nil {
		t.Fatal(err)
	}
	if err := w.s.lookLast(); err != nil {
		t.Errorf("nothing has changed, but %v", err)
	}
	for name, text := range map[string]string{"max_connections = \n": "max_connections", "blocking_timeout = 7s\n": "conf reload first", "port = 4999\n": "need a restart"} {
		f.write("pgagroal.conf", name)
		if err := w.s.lookLast(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("with %q: %v, want %q", name, err, text)
		}
	}
	f.write("pgagroal.conf", "")
	if u.program = "/bin/false"; w.s.lookLast() == nil {
		t.Error("another program would be executed")
	}
}

// An answer of the starter that came after the exec would be taken for that of the next program's first request.
func TestUpgradeWaitsForTheStartersAnswers(t *testing.T) {
	w := upgradable(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "starter")
	process := exec.Command("sleep", "1000") // a starter that doesn't read
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	starter, err := proc.AdoptStarter(process.Process.Pid, fds[0])
	if err != nil {
		t.Fatal(err)
	}
	w.s.workers.starter = starter
	if why := w.s.needsWorkers(); why != "" {
		t.Errorf("nothing was asked of the starter, but %s", why)
	}
	failed := make(chan error, 1)
	starter.Kill(1, func(err error) { failed <- err })
	if why := w.s.needsWorkers(); why != "a process is being started or killed" {
		t.Errorf("while it is asked to kill: %q", why)
	}
	theirs.Close() // as if it had ended
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if <-failed == nil {
		t.Error("the kill has no error")
	}
	starter.Close()
}
