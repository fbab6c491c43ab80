package proc

import (
	"errors"
	"io/fs"
	"os"
)

// NewFile makes a new file at path, in place of a file or link that is there. It writes
// through nothing that somebody may have put there, not even after the old file was
// removed. The caller closes it.
func NewFile(path string, mode fs.FileMode) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return createOnly(path, mode)
}

// createOnly makes a file where there is none. With O_EXCL the kernel follows no link either,
// wherever it leads.
func createOnly(path string, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}
