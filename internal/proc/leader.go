package proc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Leader identifies the leader of a session in a form that can be stored. A process id
// alone wouldn't do, because the kernel reuses ids.
type Leader struct {
	PID   int
	Start string // start time since boot, in clock ticks
	Boot  string // id of that boot
}

// LeaderOf returns the identity of the process pid, which leads its session.
func LeaderOf(pid int) (Leader, error) {
	st, err := readStat(pid)
	if err != nil {
		return Leader{}, fmt.Errorf("name process %d: %w", pid, err)
	}
	boot, err := BootID()
	if err != nil {
		return Leader{}, err
	}
	return Leader{PID: pid, Start: st.start, Boot: boot}, nil
}

// BootID returns the kernel's id of the current boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SinceBoot returns the time since boot. Its clock is the same for all processes, and
// continues while the machine sleeps.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("proc: the clock since boot can't be read: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// Gone reports whether no process of the leader's process group and session is alive. It
// returns false if it can't find out.
func (l Leader) Gone() bool {
	reused, err := l.idReused()
	if err != nil || reused {
		return reused
	}
	if !GroupEmpty(l.PID) {
		return false
	}
	left, err := l.Members()
	return err == nil && len(left) == 0
}

// idReused reports whether the leader's id can be another process's now: after a reboot,
// or because the kernel has reused it, which it does only once no process has this id as
// its group or session.
func (l Leader) idReused() (bool, error) {
	boot, err := BootID()
	if err != nil {
		return false, err
	}
	now, err := readStat(l.PID)
	return boot != l.Boot || err == nil && now.start != l.Start, nil
}

// Members returns the living processes of the leader's process group and session, as
// far as /proc shows them.
func (l Leader) Members() ([]Process, error) {
	reused, err := l.idReused()
	if err != nil || reused {
		return nil, err
	}
	return living(func(p Process) bool { return p.PGID == l.PID || p.SID == l.PID })
}

// Marked returns the living processes that were executed with this environment variable
// and value, oldest first. It doesn't find processes whose environment it can't read.
func Marked(name, value string) ([]Process, error) {
	marked, err := living(func(p Process) bool {
		v, ok := p.Variable(name)
		return ok && v == value
	})
	slices.SortFunc(marked, func(a, b Process) int {
		if len(a.start) != len(b.start) { // they are numbers
			return len(a.start) - len(b.start)
		}
		return strings.Compare(a.start, b.start)
	})
	return marked, err
}

func living(wanted func(Process) bool) ([]Process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p Process) bool { return p.dead() || !wanted(p) }), nil
}

// MarkedLeader returns the oldest session leader among the processes of Marked. ok is
// false if there is none.
func MarkedLeader(name, value string) (l Leader, ok bool, err error) {
	marked, err := Marked(name, value)
	if err != nil {
		return Leader{}, false, err
	}
	i := slices.IndexFunc(marked, func(p Process) bool { return p.PID == p.SID })
	if i < 0 {
		return Leader{}, false, nil
	}
	l, err = LeaderOf(marked[i].PID)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Leader{}, false, nil // it has just ended
	}
	return l, err == nil, err
}
