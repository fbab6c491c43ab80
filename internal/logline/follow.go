package logline

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// packetPatience is how long one datagram may wait for a daemon that doesn't read.
const packetPatience = time.Second

// Follow directs a logger of New, and all that were made from it, to another log. fds has
// its descriptor, open for writing, which Follow takes over; it is empty if none was free
// for it. Standard error becomes a copy of a stream, so that the last words of a process
// that crashes go there, too. Lines that are already queued are written to the former log.
func Follow(log *slog.Logger, s Settings, fds []int) {
	h, ok := log.Handler().(*handler)
	if !ok || h.queue == nil {
		closeAll(fds)
		Restyle(log, s)
		return
	}
	if len(fds) != 1 {
		closeAll(fds)
		Restyle(log, s)
		log.Error("no descriptor was free for the log that was opened again; lines go to the old one")
		return
	}
	var err error
	next := &descriptor{fd: fds[0], patience: packetPatience}
	if s.Kind == Stream {
		next.patience = -1
		err = unix.Dup3(next.fd, unix.Stderr, 0)
	}
	h.change(func(st *style) {
		if d, ok := st.out.(*descriptor); ok {
			h.queue.close(d)
		}
		st.Settings, st.out = s, next
	})
	if err != nil {
		log.Error("standard error can't be directed to the log", "error", err)
	}
}

// Restyle changes how a logger of New writes, and all that were made from it, to the log
// that they have. The kind of the log stays.
func Restyle(log *slog.Logger, s Settings) {
	if h, ok := log.Handler().(*handler); ok {
		h.change(func(st *style) {
			s.Kind = st.Kind
			st.Settings = s
		})
	}
}

// Rename changes the name of the process in the lines of a logger of New.
func Rename(log *slog.Logger, process string) {
	if h, ok := log.Handler().(*handler); ok {
		h.change(func(st *style) { st.process = process })
	}
}

// change replaces the style.
func (sh *shared) change(f func(*style)) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	next := *sh.style.Load()
	f(&next)
	sh.style.Store(&next)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// descriptor writes to a descriptor that it owns.
type descriptor struct {
	fd       int
	patience time.Duration // below 0 for ever
}

func (d *descriptor) Write(line []byte) (int, error) { return writeAll(d.fd, line, d.patience) }

func (d *descriptor) Close() error { return unix.Close(d.fd) }

var errStuck = errors.New("nobody reads the log")

// writeAll writes a line. It waits for space by itself when the descriptor doesn't block,
// at most for patience.
func writeAll(fd int, line []byte, patience time.Duration) (n int, err error) {
	for n < len(line) && err == nil {
		var m int
		m, err = unix.Write(fd, line[n:])
		n += max(m, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			err = nil
		case errors.Is(err, unix.EAGAIN):
			err = waitForSpace(fd, patience)
		}
	}
	return n, err
}

func waitForSpace(fd int, patience time.Duration) error {
	limit := -1
	if patience >= 0 {
		limit = int(patience.Milliseconds())
	}
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, limit)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err == nil && ready == 0:
		return errStuck
	}
	return err
}

// Write writes a line, while the file stays open.
func (f file) Write(line []byte) (n int, err error) {
	werr := f.raw.Write(func(fd uintptr) bool {
		n, err = writeAll(int(fd), line, -1)
		return true
	})
	return n, cmp.Or(err, werr)
}
