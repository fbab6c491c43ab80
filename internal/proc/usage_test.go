package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The processor's time of a child that works grows, and that of one that is stopped doesn't.
func TestUsageGrowsOnlyWhileAProcessRuns(t *testing.T) {
	t.Parallel()
	busy := startUntilEnd(t, "sh", "-c", "while :; do :; done")
	at := func() time.Duration {
		u, err := UsageOf(busy)
		if err != nil {
			t.Fatal(err)
		}
		if u.Resident < 8<<10 {
			t.Fatalf("resident: %d bytes", u.Resident)
		}
		return u.CPU
	}
	waitUntil(t, "it has run for a while", func() bool { return at() > 20*time.Millisecond })
	if err := syscall.Kill(busy, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "it is stopped", func() bool { return !Starves(busy) })
	if one, two := at(), at(); one != two {
		t.Errorf("it has run for %s and then for %s, though it is stopped", one, two)
	}
	if u, err := UsageOf(1 << 25); err == nil {
		t.Errorf("a process that doesn't exist has used %+v", u)
	}
}

// Where /proc hides a process of another user, its time is still known. Its memory isn't.
func TestUsageOfAProcessThatProcHides(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can mount another /proc")
	}
	busy := startUntilEnd(t, "sh", "-c", "while :; do :; done")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), quickExit, "PROC_TEST=hidden", "PROC_TEST_PID="+strconv.Itoa(busy))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), "mount /proc: "+syscall.EPERM.Error()) {
		t.Skip("another /proc can't be mounted here")
	}
	if got, want := strings.TrimSpace(string(out)), "hidden true, ran true, resident 0"; err != nil || got != want {
		t.Fatalf("%s (%v), want %s", got, err, want)
	}
}

// hiddenChild says what nobody learns of a process of root under hidepid.
func hiddenChild() int {
	pid, err := strconv.Atoi(os.Getenv("PROC_TEST_PID"))
	if err == nil {
		if err = syscall.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
			err = fmt.Errorf("mount /proc: %w", err)
		}
	}
	if err == nil {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setresgid(65534, 65534, 65534), syscall.Setresuid(65534, 65534, 65534))
	}
	if err != nil {
		fmt.Println(err)
		return 2
	}
	_, err = os.Stat("/proc/" + strconv.Itoa(pid))
	hidden := os.IsNotExist(err)
	u, err := UsageOf(pid)
	for end := time.Now().Add(limit); err == nil && u.CPU == 0 && time.Now().Before(end); {
		u, err = UsageOf(pid)
	}
	if err != nil {
		fmt.Println(err)
		return 2
	}
	fmt.Printf("hidden %v, ran %v, resident %d\n", hidden, u.CPU > 0, u.Resident)
	return 0
}
