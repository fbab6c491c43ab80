package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxCommand is how much of a command line Command shows, in bytes.
const maxCommand = 120

// LockHolders returns the processes that hold the lock of a file. It leaves out this
// process and its descendants, and it doesn't see the descriptors of every other user's
// processes.
func LockHolders(f *os.File) ([]Process, error) {
	locked, err := f.Stat()
	if err != nil {
		return nil, err
	}
	below, err := Descendants()
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{os.Getpid(): true}
	for _, p := range below {
		ours[p.PID] = true
	}
	return living(func(p Process) bool { return !ours[p.PID] && p.holdsLock(locked) })
}

// holdsLock reports whether the process has a descriptor of the locked file that belongs
// to the open file description which has the lock.
func (p Process) holdsLock(locked os.FileInfo) bool {
	dir := filepath.Join("/proc", strconv.Itoa(p.PID))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		file, err := os.Stat(filepath.Join(dir, "fd", fd.Name()))
		if err != nil || !os.SameFile(file, locked) {
			continue
		}
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", fd.Name()))
		if err == nil && strings.Contains(string(info), "FLOCK") {
			return true
		}
	}
	return false
}

// Command returns the beginning of the process's command line. It is empty if the process
// has none or is gone.
func (p Process) Command() string {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "cmdline"))
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	return text[:min(len(text), maxCommand)]
}
