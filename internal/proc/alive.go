package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stat is what we need of /proc/PID/stat.
type stat struct {
	pid, ppid, pgid int
	state           byte
	start           string // since boot, in clock ticks: with pid it names a process for good
}

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(pid, string(b))
}

// parseStat reads from the last parenthesis on: the name before it may hold
// anything, parentheses and blanks included.
func parseStat(pid int, line string) (stat, error) {
	i := strings.LastIndexByte(line, ')')
	f := strings.Fields(line[i+1:])
	if i < 0 || len(f) < 20 {
		return stat{}, fmt.Errorf("process %d: stat can't be read", pid)
	}
	ppid, err1 := strconv.Atoi(f[1])
	pgid, err2 := strconv.Atoi(f[2])
	return stat{pid: pid, state: f[0][0], ppid: ppid, pgid: pgid, start: f[19]}, errors.Join(err1, err2)
}

// processes returns all that /proc shows, zombies included.
func processes() ([]stat, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []stat
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil {
			all = append(all, st)
		}
	}
	return all, nil
}

// ProcessAlive reports whether the process exists and isn't a zombie.
func ProcessAlive(pid int) bool {
	if pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return false
	}
	st, err := readStat(pid)
	if err != nil {
		// Hidden by the mount options of /proc is not gone.
		return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	}
	return !st.dead()
}

// GroupEmpty reports whether no process of the group is left but zombies. When
// that can't be told it is false.
func GroupEmpty(pgid int) bool {
	if pgid <= 1 {
		return false
	}
	if errors.Is(unix.Kill(-pgid, 0), unix.ESRCH) {
		return true
	}
	all, err := processes()
	if err != nil {
		return false
	}
	seen := false
	for _, st := range all {
		if st.pgid != pgid {
			continue
		}
		seen = true
		if !st.dead() {
			return false
		}
	}
	return seen || errors.Is(unix.Kill(-pgid, 0), unix.ESRCH)
}

// descendants returns the processes below pid, parents first, zombies included.
func descendants(pid int) ([]stat, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	children := map[int][]stat{}
	for _, st := range all {
		children[st.ppid] = append(children[st.ppid], st)
	}
	var below []stat
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		for _, c := range children[todo[0]] {
			below = append(below, c)
			todo = append(todo, c.pid)
		}
	}
	return below, nil
}

// SignalDescendants sends sig to every living process below this one and
// returns how many there were. It takes a Subreaper for this to mean all: else
// those whose parent has died are out of sight.
func SignalDescendants(sig unix.Signal) (int, error) {
	below, err := descendants(os.Getpid())
	if err != nil {
		return 0, err
	}
	n := 0
	var failed error
	for _, st := range below {
		if st.dead() {
			continue
		}
		n++
		// One that has become another user must not save the others.
		failed = errors.Join(failed, signalExactly(st, sig))
	}
	return n, failed
}

// signalExactly signals the process that st was read of, and none that has got
// the same id since.
func signalExactly(st stat, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(st.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", st.pid, err)
	}
	defer unix.Close(fd)
	now, err := readStat(st.pid)
	if err != nil || now.start != st.start {
		return nil
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", st.pid, err)
	}
	return nil
}

// ReapOrphans collects the zombies among the children of this process, except
// those for which somebody else waits.
func ReapOrphans(except ...int) error {
	all, err := processes()
	if err != nil {
		return err
	}
	self := os.Getpid()
next:
	for _, st := range all {
		if st.ppid != self || st.state != 'Z' {
			continue
		}
		for _, pid := range except {
			if st.pid == pid {
				continue next
			}
		}
		if _, err := unix.Wait4(st.pid, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.ECHILD) {
			return fmt.Errorf("reap process %d: %w", st.pid, err)
		}
	}
	return nil
}
