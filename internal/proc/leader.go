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

// Leader identifies the first process of a session in a form that can be stored: a
// process id alone is reused one day.
type Leader struct {
	PID   int
	Start string // start time since boot, in clock ticks
	Boot  string // id of that boot
}

// LeaderOf returns the identity of a process that has just become the leader of its
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

// BootID returns the id of this boot of the machine.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SinceBoot returns the time since boot. This clock goes on while the machine sleeps,
// and all processes share it.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("proc: the clock since boot can't be read: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// Gone reports whether no process of the leader's process group and session is alive.
// If that is unknown, it returns false.
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

// ofThePast reports whether the kernel has reused the leader's id. It does that only
// when no process has it as group or session any more.
func (l Leader) ofThePast() (bool, error) {
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

// MarkedLeader returns the oldest session leader with that mark. ok is false if there
// is none.
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
