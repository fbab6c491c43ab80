package statedir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const (
	// recordName is the file that holds the machine's record.
	recordName = "pgagroal.state"
	// copyName holds a copy of the same record. It must not be older: an older record may not tell
	// yet which server a script was about to promote.
	copyName = "pgagroal.state.copy"
	// badSuffix is added to the name of an unreadable file, so that nothing overwrites it.
	badSuffix = ".bad"
)

// sealed is the content of a file: a record with its checksum. It is one JSON document, so that an
// operator's tools can read it.
type sealed struct {
	SHA256 string          `json:"sha256"` // of the bytes of Record
	Record json.RawMessage `json:"record"`
}

// WriteRecord replaces the record and its copy. After a crash each file has either the old or the
// new content; once WriteRecord has returned, both have the new one.
func WriteRecord(dir string, record []byte) error {
	data := seal(record)
	for _, name := range []string{recordName, copyName} {
		if err := replace(filepath.Join(dir, name), data, nil); err != nil {
			return fmt.Errorf("write the record: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

func seal(record []byte) []byte {
	record = bytes.TrimSpace(record)
	return fmt.Appendf(nil, "{\n\"sha256\": \"%x\",\n\"record\": %s\n}\n", sha256.Sum256(record), record)
}

// unseal checks the checksum of a file and returns its record. A file without a checksum comes from
// an earlier release.
func unseal(file []byte) ([]byte, error) {
	var s sealed
	if err := json.Unmarshal(file, &s); err != nil {
		return nil, err
	}
	if s.SHA256 == "" && s.Record == nil {
		return file, nil
	}
	if sum := sha256.Sum256(s.Record); s.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("the checksum is wrong")
	}
	return s.Record, nil
}

// replace writes a temporary file, makes it durable and renames it to path. Files that exist under
// either name are replaced, never written through. If mayReplace isn't nil, it decides at the last moment.
func replace(path string, data []byte, mayReplace func() bool) error {
	tmp := path + ".tmp"
	f, err := proc.NewFile(tmp, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if mayReplace != nil && !mayReplace() {
		return errors.Join(errNotAnyMore, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

var errNotAnyMore = errors.New("it was given up meanwhile")

// WriteAuto replaces the file of conf set --persist. After a crash it has either the old or the new content. mayReplace is
// asked once everything that may take long is done: if it returns false, the file stays as it was.
func WriteAuto(dir, text string, mayReplace func() bool) error {
	err := replace(filepath.Join(dir, config.AutoName), []byte(text), mayReplace)
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", config.AutoName, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadRecord returns the record of the previous supervisor. If a file is unreadable or gone, damage
// says which one, where an unreadable file is kept, and what is used instead. No record and no
// damage means a first start. Damage without a record means that nobody knows which server was the
// primary.
func ReadRecord(dir string) (r *failover.Record, damage error) { return readRecord(dir, setAside) }

// LookAtRecord is ReadRecord, but changes nothing: the files are those of a supervisor that runs.
func LookAtRecord(dir string) (r *failover.Record, damage error) {
	return readRecord(dir, func(_, name string, err error) error {
		if err != nil {
			err = fmt.Errorf("%s can't be read: %w", name, err)
		}
		return err
	})
}

func readRecord(dir string, setAside func(dir, name string, err error) error) (r *failover.Record, damage error) {
	r, err := loadRecord(filepath.Join(dir, recordName))
	if r != nil {
		return r, nil
	}
	r, copyErr := loadRecord(filepath.Join(dir, copyName))
	switch {
	case r != nil && err == nil:
		return r, fmt.Errorf("%s is gone; %s is used instead", recordName, copyName)
	case r != nil:
		return r, fmt.Errorf("%w; %s is used instead", setAside(dir, recordName, err), copyName)
	case err == nil && copyErr == nil:
		return nil, nil
	}
	return nil, errors.Join(setAside(dir, recordName, err), setAside(dir, copyName, copyErr))
}

// loadRecord returns nil without an error when there is no such file.
func loadRecord(path string) (*failover.Record, error) {
	file, err := readFile(path)
	if file == nil || err != nil {
		return nil, err
	}
	record, err := unseal(file)
	if err != nil {
		return nil, err
	}
	return failover.DecodeRecord(record)
}

// setAside renames an unreadable file to keep it, and adds its new name to err. It does nothing if
// err is nil.
func setAside(dir, name string, err error) error {
	if err == nil {
		return nil
	}
	path := filepath.Join(dir, name)
	if rerr := os.Rename(path, path+badSuffix); rerr != nil {
		return fmt.Errorf("%s can't be read: %w, nor kept: %w", name, err, rerr)
	}
	return fmt.Errorf("%s can't be read: %w; it is kept as %s", name, err, path+badSuffix)
}
