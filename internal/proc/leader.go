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

// Leader names the first process of a session in a way that can be written
// down: a process id alone is given to another process one day.
type Leader struct {
	PID   int
	Start string // since boot, in clock ticks
	Boot  string // id of that boot
}

// LeaderOf returns the name of a process that has just become the leader of its
// session.
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

// BootID tells this boot of the machine from all others.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SinceBoot is the clock that goes on while the machine sleeps, and that every
// process sees alike.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("proc: the clock since boot can't be read: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// Gone reports whether nothing lives of the leader's process group and session.
// When that can't be told it is false.
func (l Leader) Gone() bool {
	old, err := l.ofThePast()
	if err != nil || old {
		return old
	}
	if !GroupEmpty(l.PID) {
		return false
	}
	left, err := l.Members()
	return err == nil && len(left) == 0
}

// ofThePast says that the kernel has given the leader's id away since. It does
// so only when no process is left that has it as its group or session.
func (l Leader) ofThePast() (bool, error) {
	boot, err := BootID()
	if err != nil {
		return false, err
	}
	now, err := readStat(l.PID)
	return boot != l.Boot || err == nil && now.start != l.Start, nil
}

// Members returns what lives of the leader's process group and session, as far
// as /proc shows it.
func (l Leader) Members() ([]Process, error) {
	old, err := l.ofThePast()
	if err != nil || old {
		return nil, err
	}
	return living(func(p Process) bool { return p.PGID == l.PID || p.SID == l.PID })
}

// Marked returns the living processes that were executed with this value of a
// variable and whose environment may be read, oldest first.
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

// MarkedLeader returns the oldest process with that mark that leads a session.
// ok is false when there is none.
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
