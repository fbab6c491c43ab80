package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// WritePIDFile makes the pid file. It replaces a file whose process is gone or is no pgagroal.
func WritePIDFile(path string, log *slog.Logger) error {
	for range 2 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
			if err = errors.Join(err, f.Close()); err != nil {
				os.Remove(path)
				return fmt.Errorf("write the pid file: %w", err)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create the pid file: %w", err)
		}
		pid := readPID(path)
		if pid == os.Getpid() || pid > 0 && isPgagroal(pid) {
			return fmt.Errorf("pid file %s names process %d, which is a running pgagroal; stop it first", path, pid)
		}
		log.Warn("stale pid file is replaced", "path", path, "pid", pid)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the stale pid file: %w", err)
		}
	}
	return fmt.Errorf("pid file %s was made by another process at this moment; try again", path)
}

// RemovePIDFile removes the file if it is still ours.
func RemovePIDFile(path string) {
	if readPID(path) == os.Getpid() {
		os.Remove(path)
	}
}

// Served says whether the pid file at path names a running pgagroal. It returns true, too, for a file that the present
// user can't read.
func Served(path string) bool {
	if _, err := os.ReadFile(path); errors.Is(err, fs.ErrPermission) {
		return true
	}
	pid := readPID(path)
	return pid > 0 && isPgagroal(pid)
}

func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// isPgagroal reports whether a process lives and is a pgagroal. It is one if it runs this binary or
// another of the name pgagroal, or, when /proc hides the binary, if its command has that name. If
// nothing can be found out, isPgagroal returns true.
func isPgagroal(pid int) bool {
	if !proc.ProcessAlive(pid) {
		return false
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		self, _ := os.Executable()
		exe = strings.TrimSuffix(exe, " (deleted)")
		return exe == self || filepath.Base(exe) == "pgagroal"
	}
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return true
	}
	argv0, _, _ := strings.Cut(string(line), "\x00")
	return strings.Contains(filepath.Base(argv0), "pgagroal")
}
