package logline

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// Follow directs a logger of New, and all that were made from it, to another log. fds has
// its descriptor, open for writing, which Follow takes over; it is empty if none was free
// for it. Standard error becomes a copy of a stream, so that the last words of a process
// that crashes go there, too. Lines that are already queued are written to the former log,
// unless that is stuck: then they are lost, and counted.
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
	next := newDescriptor(fds[0], s.Kind == Stream)
	h.change(func(st *style) {
		if old, ok := st.out.(leaver); ok {
			old.leaveFor(next.place)
		}
		if d, ok := st.out.(*descriptor); ok {
			h.queue.close(d)
		}
		st.Settings, st.out, st.most = s, next, next.place.longest()
	})
	if s.Kind == Stream {
		err = unix.Dup3(next.fd, unix.Stderr, 0)
	}
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
