package proc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a process at the moment when it was read from /proc.
type Process struct {
	PID, PPID, PGID, SID int

	state   byte
	threads int
	start   string // start time since boot, in clock ticks; with PID it is unique until the next boot
}

// Key identifies the process among all processes since boot.
func (p Process) Key() string { return strconv.Itoa(p.PID) + "/" + p.start }

// dead reports whether the process has ended. A process is in state Z also when only its
// first thread has ended, but then it still has other threads.
func (p Process) dead() bool { return p.state == 'X' || p.state == 'Z' && p.threads <= 1 }

func readStat(pid int) (Process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, err
	}
	return parseStat(pid, string(b))
}

// parseStat starts at the last parenthesis, because the name before it may contain
// anything, even parentheses and blanks.
func parseStat(pid int, line string) (Process, error) {
	i := strings.LastIndexByte(line, ')')
	f := strings.Fields(line[i+1:])
	if i < 0 || len(f) < 20 {
		return Process{}, fmt.Errorf("process %d: stat can't be read", pid)
	}
	ppid, err1 := strconv.Atoi(f[1])
	pgid, err2 := strconv.Atoi(f[2])
	sid, err3 := strconv.Atoi(f[3])
	threads, err4 := strconv.Atoi(f[17])
	p := Process{PID: pid, PPID: ppid, PGID: pgid, SID: sid, state: f[0][0], threads: threads, start: f[19]}
	return p, errors.Join(err1, err2, err3, err4)
}

// processes returns all processes that /proc shows, zombies included.
func processes() ([]Process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
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
		// The process may be alive: mount options of /proc can hide it.
		return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	}
	return !st.dead()
}

// GroupEmpty reports whether no process of the process group is alive. Zombies don't
// count. It returns false if it can't find out.
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
		if st.PGID != pgid {
			continue
		}
		seen = true
		if !st.dead() {
			return false
		}
	}
	return seen || errors.Is(unix.Kill(-pgid, 0), unix.ESRCH)
}

// Descendants returns the living descendants of this process, parents first. Only after
// Subreaper does that include processes whose parent has ended.
func Descendants() ([]Process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	children := map[int][]Process{}
	for _, st := range all {
		children[st.PPID] = append(children[st.PPID], st)
	}
	var below []Process
	for todo := []int{os.Getpid()}; len(todo) > 0; todo = todo[1:] {
		for _, c := range children[todo[0]] {
			if !c.dead() {
				below = append(below, c)
				todo = append(todo, c.PID)
			}
		}
	}
	return below, nil
}

// Ancestry returns the process and its ancestors, the process first, as far as /proc
// shows them. Every process in it was seen alive after its parent was read, so that a
// reused id is not taken for an ancestor.
func Ancestry(pid int) ([]Process, error) {
	const tries = 16 // a try fails only if an ancestor ends during it
	for range tries {
		if line, settled := ancestry(pid); settled {
			return line, nil
		}
	}
	return nil, fmt.Errorf("the ancestors of process %d change all the time", pid)
}

// ancestry reads the ancestors once. settled says that none of them ended meanwhile.
func ancestry(pid int) (line []Process, settled bool) {
	p, err := readStat(pid)
	for err == nil {
		parent, perr := readStat(p.PPID)
		if now, err := readStat(p.PID); err != nil || now.start != p.start || now.PPID != p.PPID {
			return nil, false
		}
		line = append(line, p)
		p, err = parent, perr
	}
	return line, true
}

// Signal signals exactly this process, never another one that has got its id since.
// Signal returns no error if the process is gone.
func (p Process) Signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	now, err := readStat(p.PID)
	if err != nil || now.start != p.start {
		return nil
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Variable returns an environment variable that the process had when it was executed.
// ok is false if it had none, or if its environment can't be read.
func (p Process) Variable(name string) (value string, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/environ")
	if err != nil {
		return "", false
	}
	for v := range strings.SplitSeq(string(b), "\x00") {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// ReapStrays reaps the zombies among the children of this process. except has the ids of
// the children that somebody else waits for.
func ReapStrays(except ...int) error {
	found, err := Zombies()
	if err != nil {
		return err
	}
	for _, pid := range found {
		if slices.Contains(except, pid) {
			continue
		}
		if err := Reap(pid); err != nil {
			return err
		}
	}
	return nil
}

// Zombies returns the ids of the children of this process that have ended but were not
// reaped yet. It reads all of /proc.
func Zombies() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var found []int
	self := os.Getpid()
	for _, st := range all {
		if st.PPID == self && st.state == 'Z' {
			found = append(found, st.PID)
		}
	}
	return found, nil
}

// Reap reaps a zombie. It doesn't block. It does nothing if the process is alive or isn't
// a child of this process.
func Reap(pid int) error {
	if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("reap process %d: %w", pid, err)
	}
	return nil
}

// SignalName returns the name of a signal, as in "SIGTERM".
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(sig))
}

// DescendsFrom reports whether the process pid is ancestor or one of its descendants. It
// returns false if it can't find out, because the process or one of its ancestors is gone.
func DescendsFrom(pid, ancestor int) bool {
	for steps := 0; pid > 0 && steps < 1<<16; steps++ { // bounded, because reused ids could form a circle
		if pid == ancestor {
			return true
		}
		st, err := readStat(pid)
		if err != nil {
			return false
		}
		pid = st.PPID
	}
	return false
}

// Carries reports whether the process was executed with this environment variable, with
// any value. It returns false if the environment can't be read.
func Carries(pid int, name string) bool {
	_, ok := Process{PID: pid}.Variable(name)
	return ok
}
