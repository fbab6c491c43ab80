package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// programFD is above all descriptors of a child: those are put in place before the child
// executes its program, and must not replace the program's descriptor.
const programFD = 64

// OpenProgram opens a program beside this binary, to be started later by Spawn. Held open,
// it stays the same program when a package upgrade replaces the file, as this binary does.
func OpenProgram(name string) (*os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("find the program %s: %w", name, &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(fd)
	return above(fd, path)
}

// above returns a copy of a descriptor that no file of a child can replace.
func above(fd int, name string) (*os.File, error) {
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, programFD)
	if err != nil {
		return nil, fmt.Errorf("keep %s open: %w", name, err)
	}
	return os.NewFile(uintptr(high), name), nil
}

// inheritedProgram returns the program that the process which started this one has passed
// as descriptor fd, nil if it has passed none.
func inheritedProgram(fd int) (*os.File, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, nil
	}
	defer unix.Close(fd)
	return above(fd, "program")
}
