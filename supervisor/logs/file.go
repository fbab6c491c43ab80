package logs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ncruces/go-strftime"
	"golang.org/x/sys/unix"
)

// maxNames is how many names are tried for a file that is rotated away.
const maxNames = 1000

// openFile opens the file whose name is right now. A pipe needs a reader, because the
// start must not wait for one.
func openFile(s Settings, now time.Time) (*Log, error) {
	path := strftime.Format(s.Path, now)
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := unix.Open(path, flags, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log file: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	l := &Log{kind: File, path: path, fd: fd, opened: now}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		l.Close()
		return nil, fmt.Errorf("open the log file: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	l.id, l.regular = idOf(&st), st.Mode&unix.S_IFMT == unix.S_IFREG
	return l, nil
}

// truncate empties the file, for log_mode = create.
func (l *Log) truncate() error {
	if err := unix.Ftruncate(l.fd, 0); err != nil && !errors.Is(err, unix.EINVAL) { // a pipe, a terminal
		return fmt.Errorf("empty the log file: %w", &os.PathError{Op: "truncate", Path: l.path, Err: err})
	}
	return nil
}

// Start opens the log for a pgagroal that starts, or whose configuration names another
// log now.
func Start(s Settings, now time.Time) (*Log, error) {
	l, err := Open(s, now)
	if err != nil || s.Kind != File || !s.Create {
		return l, err
	}
	if err := l.truncate(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// nextRotation returns the next multiple of age in local time, as PostgreSQL has it: with
// 1d that is midnight, with 1h the next full hour. It is zero without an age.
func nextRotation(now time.Time, age time.Duration) time.Time {
	if age <= 0 {
		return time.Time{}
	}
	_, offset := now.Zone()
	local := time.Duration(now.Unix()+int64(offset)) * time.Second
	next := (local/age + 1) * age
	return time.Unix(int64(next/time.Second)-int64(offset), 0)
}

// Reason is why a log is opened again.
type Reason string

// Reasons.
const (
	NoReason Reason = ""
	Asked    Reason = "asked for by signal"
	Moved    Reason = "its name leads to something else"
	TooOld   Reason = "log_rotation_age"
	TooLarge Reason = "log_rotation_size"
)

// Due says whether the log must be opened again now, and why.
func (l *Log) Due(s Settings, now time.Time) Reason {
	size, moved := l.look()
	due := nextRotation(l.opened, s.Age)
	switch {
	case moved:
		return Moved
	case !l.regular:
		return NoReason
	case !due.IsZero() && !now.Before(due):
		return TooOld
	case s.Size > 0 && size >= s.Size:
		return TooLarge
	}
	return NoReason
}

// Again opens the log again. A file that is too old or too large is renamed first if
// log_path has no other name for the new one; the name gets the time. The new file is
// emptied if log_mode is create, unless it is the old one: then lines would be lost that
// nobody has asked to lose. The old log stays open; l is unchanged.
func (l *Log) Again(s Settings, why Reason, now time.Time) (*Log, error) {
	if (why == TooOld || why == TooLarge) && strftime.Format(s.Path, now) == l.path {
		if err := moveAway(l.path, now); err != nil {
			return nil, err
		}
	}
	next, err := Open(s, now)
	if err != nil {
		return nil, err
	}
	if s.Kind == File && s.Create && next.id != l.id {
		if err := next.truncate(); err != nil {
			next.Close()
			return nil, err
		}
	}
	return next, nil
}

// moveAway renames a file that has had its time.
func moveAway(path string, now time.Time) error {
	name := path + "." + now.Format("20060102-150405")
	for i := range maxNames {
		to := name
		if i > 0 {
			to = fmt.Sprintf("%s.%d", name, i)
		}
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(path, to); err != nil {
			return fmt.Errorf("rotate the log file: %w", err)
		}
		return nil
	}
	return fmt.Errorf("rotate the log file: %s and %d names like it are taken", name, maxNames-1)
}
