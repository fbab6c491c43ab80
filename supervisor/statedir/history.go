package statedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// historyName is the file with one JSON object a line.
	historyName = "history.jsonl"
	// historySize is the size in bytes at which the file becomes the .1 file, replacing the
	// previous one.
	historySize = 4 << 20
)

// AppendHistory adds a line to the file. A large file first becomes the .1 file. If a crash has left
// an incomplete last line, AppendHistory ends that line first.
func AppendHistory(dir string, line []byte) error {
	path := filepath.Join(dir, historyName)
	if info, err := os.Lstat(path); err == nil && info.Size()+int64(len(line)) > historySize {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("rotate the history: %w", err)
		}
	}
	f, err := openRegular(path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	torn, err := endsTorn(f)
	if err == nil {
		if torn {
			line = append([]byte("\n"), line...)
		}
		_, err = f.Write(line)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// endsTorn reports whether the last line of a file is incomplete.
func endsTorn(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return last[0] != '\n', err
}

// ReadHistory returns the lines of the file, oldest first. The error says how many lines are
// unreadable, or that the whole file is. A file that is unreadable as a whole is renamed and kept.
func ReadHistory(dir string) ([]json.RawMessage, error) {
	b, err := readFile(filepath.Join(dir, historyName))
	if err != nil {
		return nil, setAside(dir, historyName, err)
	}
	var entries []json.RawMessage
	damaged := 0
	for line := range bytes.Lines(b) {
		switch line = bytes.TrimSpace(line); {
		case json.Valid(line):
			entries = append(entries, line)
		case len(line) > 0:
			damaged++
		}
	}
	if damaged > 0 {
		return entries, fmt.Errorf("%d lines of %s can't be read and stay there", damaged, historyName)
	}
	return entries, nil
}

// readFile returns the content of a file, nil if it doesn't exist.
func readFile(path string) ([]byte, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// openRegular opens a file. It follows no link and doesn't block on a pipe.
func openRegular(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
