// Package logs opens the log that all processes of pgagroal write to: a file, standard
// error, a syslog daemon, or systemd's journal. It rotates the file.
//
// Only the supervisor opens a log. Every process has a copy of the descriptor and writes
// to it by itself, so the lines of a worker whose supervisor has died still arrive. After
// a rotation the supervisor passes copies of the new descriptor on; until a process has
// its copy, its lines go to the end of the old file, and none is lost.
package logs

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
)

// Log is an open log. Its methods may block, so the loop of the supervisor calls only
// Copy, Kind, Path and Close.
type Log struct {
	kind    Kind
	path    string // empty for standard error
	fd      int
	id      fileID
	regular bool // a file that can be rotated
	opened  time.Time
}

// Kind is a value of log_type.
type Kind string

// Values of log_type.
const (
	Console Kind = "console"
	File    Kind = "file"
	Syslog  Kind = "syslog"
	Journal Kind = "journald"
)

// Places are the sockets of the daemons that take lines.
type Places struct{ Syslog, Journal string }

// Standard are the places that each Linux system has.
var Standard = Places{Syslog: "/dev/log", Journal: "/run/systemd/journal/socket"}

// Settings are the keys that say where the log is.
type Settings struct {
	Kind   Kind
	Path   string // of the file, with conversions of strftime
	Create bool   // a file that is there already is emptied
	Age    time.Duration
	Size   int64
	Places Places
	// StdErr is the descriptor of the standard error with which pgagroal was started.
	StdErr int
}

// SettingsOf returns the settings of a configuration.
func SettingsOf(c *config.Config, stderr int) Settings {
	s := Settings{
		Kind: Kind(c.LogType), Path: c.LogPath, Create: c.LogMode == "create", Age: c.LogRotationAge, Size: c.LogRotationSize,
		Places: Standard, StdErr: stderr,
	}
	if s.Path == "" {
		s.Path = "pgagroal.log"
	}
	return s
}

// SamePlace reports whether two settings lead to the same log.
func (s Settings) SamePlace(t Settings) bool {
	return s.Kind == t.Kind && (s.Kind != File || s.Path == t.Path)
}

// Open opens the log. The caller must close it.
func Open(s Settings, now time.Time) (*Log, error) {
	switch s.Kind {
	case File:
		return openFile(s, now)
	case Syslog:
		return openSocket(Syslog, s.Places.Syslog)
	case Journal:
		return openSocket(Journal, s.Places.Journal)
	}
	fd, err := duplicate(s.StdErr)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &Log{kind: Console, fd: fd}, nil
}

// openSocket connects to a daemon. The socket doesn't block, so that a daemon that hangs
// costs lines and no more.
func openSocket(kind Kind, path string) (*Log, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("log_type = %s: %w", kind, err)
	}
	l := &Log{kind: kind, path: path, fd: fd}
	var st unix.Stat_t
	if err = unix.Stat(path, &st); err == nil {
		l.id = idOf(&st)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("log_type = %s: connect to %s: %w", kind, path, err)
	}
	return l, nil
}

// Kind returns how lines are written to the log.
func (l *Log) Kind() logline.Kind {
	return map[Kind]logline.Kind{Syslog: logline.Syslog, Journal: logline.Journal}[l.kind]
}

// Path returns the file or the socket, "" for standard error.
func (l *Log) Path() string { return l.path }

// Copy returns another descriptor of the log. The caller closes it.
func (l *Log) Copy() (int, error) { return duplicate(l.fd) }

// Close closes the descriptor. Copies stay open.
func (l *Log) Close() { unix.Close(l.fd) }

func duplicate(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("copy the descriptor of the log: %w", err)
	}
	return n, nil
}

// fileID tells a file from another one that has got its name.
type fileID struct {
	dev, ino uint64
	// changed is for a socket, whose inode may have been freed and used again. An open file keeps
	// its inode.
	changed unix.Timespec
}

func idOf(st *unix.Stat_t) fileID {
	id := fileID{dev: st.Dev, ino: st.Ino}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		id.changed = st.Ctim
	}
	return id
}

// look returns the size of the log, and whether its path leads to something else now.
func (l *Log) look() (size int64, moved bool) {
	if l.path == "" {
		return 0, false
	}
	var st unix.Stat_t
	if err := unix.Stat(l.path, &st); err != nil {
		return 0, errors.Is(err, unix.ENOENT)
	}
	return st.Size, idOf(&st) != l.id
}
