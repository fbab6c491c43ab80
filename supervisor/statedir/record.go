package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// recordName is the file that holds the machine's record.
const recordName = "pgagroal.state"

// WriteRecord replaces the file so that after a crash there is the old content
// or the new one, and the new one once this has returned.
func WriteRecord(dir string, data []byte) error {
	path := filepath.Join(dir, recordName)
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

// ReadRecord returns the record of the supervisor before, nil when there is none.
func ReadRecord(dir string) (*failover.Record, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	return failover.DecodeRecord(b)
}
