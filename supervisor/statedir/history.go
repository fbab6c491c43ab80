package statedir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// historyName is the file with one JSON object a line.
	historyName = "history.jsonl"
	// historySize is its size in bytes at which it becomes the .1 file, whose
	// content is lost then.
	historySize = 4 << 20
)

// AppendHistory adds a line to the file, which becomes the .1 file when it is large.
func AppendHistory(dir string, line []byte) error {
	path := filepath.Join(dir, historyName)
	if info, err := os.Stat(path); err == nil && info.Size()+int64(len(line)) > historySize {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("rotate the history: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// ReadHistory returns the lines of the file, oldest first. A line that was cut by a
// crash is left out.
func ReadHistory(dir string) ([]json.RawMessage, error) {
	b, err := os.ReadFile(filepath.Join(dir, historyName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	var entries []json.RawMessage
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); json.Valid(line) {
			entries = append(entries, line)
		}
	}
	return entries, nil
}
