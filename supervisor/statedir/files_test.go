package statedir

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

var quiet = slog.New(slog.DiscardHandler)

// goneProcess returns the id of a process that has ended.
func goneProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestPidFileOfADeadOrForeignProcessIsReplaced(t *testing.T) {
	other := exec.Command("/bin/sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	for _, content := range []string{strconv.Itoa(goneProcess(t)), strconv.Itoa(other.Process.Pid), "nonsense", ""} {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WritePIDFile(path, quiet); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if readPID(path) != os.Getpid() {
			t.Errorf("%q was kept", content)
		}
		RemovePIDFile(path)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error("not removed")
		}
	}
}

func TestPidFileOfARunningPgagroalIsRespected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := WritePIDFile(path, quiet); err != nil {
		t.Fatal(err)
	}
	if err := WritePIDFile(path, quiet); err == nil {
		t.Error("replaced")
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	RemovePIDFile(path)
	if _, err := os.Stat(path); err != nil {
		t.Error("somebody else's pid file was removed")
	}
}

func lockConfig(dir string, on bool) *config.Config {
	c := config.New()
	c.StateDir, c.Failover = dir, on
	return c
}

// self is the account of the test. home is where it keeps its state, "" for nowhere.
func self(home string) Account { return Account{UID: uint32(os.Geteuid()), Home: home} }

func TestStateDirOfOrphansIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	file, _, _, err := proc.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	gone := fmt.Sprintf("%d\n", goneProcess(t))
	if err := os.WriteFile(filepath.Join(dir, proc.LockName), []byte(gone), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(lockConfig(dir, true), self(""), quiet)
	if err != nil || l.Ours || l.Lock == nil || !l.Usable {
		t.Fatalf("%+v, %v", l, err)
	}
	defer l.Lock.Close()
	if held, err := proc.Relock(l.Lock); !held || err != nil {
		t.Fatalf("held %v, %v", held, err)
	}
	file.Close()
	if held, err := proc.Relock(l.Lock); held || err != nil {
		t.Errorf("held %v, %v", held, err)
	}
}

func TestStateDirOfALivePgagroalIsRefused(t *testing.T) {
	dir := t.TempDir()
	file, _, _, err := proc.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// A live process of this very binary holds it.
	child, ended := holder(t)
	defer ended()
	if err := os.WriteFile(filepath.Join(dir, proc.LockName), []byte(fmt.Sprintf("%d\n", child)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(lockConfig(dir, false), self(""), quiet); err == nil {
		t.Error("started beside another one")
	}
}

func TestRecordSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	if r, err := ReadRecord(dir); r != nil || err != nil {
		t.Fatalf("%v, %v", r, err)
	}
	data, err := failover.EncodeRecord(failover.Record{Epoch: 9})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := WriteRecord(dir, data); err != nil {
			t.Fatal(err)
		}
	}
	r, err := ReadRecord(dir)
	if err != nil || r.Epoch != 9 {
		t.Errorf("%+v, %v", r, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHistoryIsKeptAndBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, historyName)
	for i := range 7 {
		if err := AppendHistory(dir, []byte(fmt.Sprintf("{\"n\":%d}\n", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := AppendHistory(dir, []byte("{\"cut")); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadHistory(dir)
	if err == nil || len(entries) != 7 || string(entries[0]) != `{"n":0}` {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	big := append(bytes.Repeat([]byte("x"), historySize), '\n')
	if err := AppendHistory(dir, big); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != int64(len(big)) {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(path + ".1"); err != nil {
		t.Error(err)
	}
}
