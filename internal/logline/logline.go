package logline

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Levels beyond those of slog.
const (
	LevelTrace = slog.Level(-8)
	LevelFatal = slog.Level(12)
)

// New returns a logger that writes one line per event of level or above to w,
// each in one Write. prefix is a strftime format; process is the name of the
// process, such as "worker 2". If w is a Queue, its report of lost lines has the same
// format, and Follow can direct the logger elsewhere.
func New(w io.Writer, prefix string, level slog.Leveler, process string) *slog.Logger {
	sh := &shared{pid: os.Getpid()}
	sh.style.Store(&style{Settings: Settings{Prefix: prefix, Level: level}, process: process, out: w, most: MaxLine})
	h := &handler{shared: sh}
	if q, ok := w.(*Queue); ok {
		sh.queue = q
		st := sh.style.Load()
		st.out = q.w
		if f, ok := q.w.(*file); ok {
			st.most = f.place.longest()
		}
		q.report(func(lost int) (io.Writer, []byte) {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log are lost, it could not be written", 0)
			r.AddAttrs(slog.Int("lines", lost))
			st := sh.style.Load()
			return st.out, st.line(h.event(r, st))
		}, sh.tellAllDropped)
	}
	return slog.New(h)
}

// Level returns the level of a log_level word: trace, debug, debug1 to debug5,
// info, warn, error or fatal. Any other word is info.
func Level(word string) slog.Level {
	switch word {
	case "trace", "debug2", "debug3", "debug4", "debug5":
		return LevelTrace
	case "debug", "debug1":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	case "fatal":
		return LevelFatal
	}
	return slog.LevelInfo
}

// handler writes lines.
type handler struct {
	*shared
	fields []slog.Attr // those of WithAttrs, with full names
	group  string      // what WithGroup puts before the name of a field, with a final dot
	// unlimited is set for lines of which none may be left out.
	unlimited bool
}

// shared is what a handler shares with the copies that WithAttrs and WithGroup make.
type shared struct {
	pid   int
	queue *Queue // nil if lines are written at once
	// mu is held while a line is written or queued, and while style changes: so no line
	// reaches an output that Follow has given up.
	mu    sync.Mutex
	style atomic.Pointer[style]
	lines [4]atomic.Uint64 // info, warn, error and fatal
	limit limiter
	tap   atomic.Pointer[func([]byte)] // see Tap; nil for none
}

// Enabled reports whether somebody gets lines of level.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.style.Load().Level.Level() || level >= slog.LevelInfo && h.tap.Load() != nil
}

// Handle writes one line, unless too many with its text were written.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if h.drops(r) {
		return nil
	}
	st := h.style.Load()
	h.tapped(r, st)
	if r.Level < st.Level.Level() {
		return nil
	}
	if r.Level >= slog.LevelInfo {
		h.lines[min(int(r.Level-slog.LevelInfo)/4, 3)].Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st = h.style.Load()
	line := st.line(h.event(r, st))
	if h.queue != nil {
		h.queue.put(st.out, line)
		return nil
	}
	_, err := st.out.Write(line)
	return err
}

// Lines returns how many lines of level info, warn, error and fatal a logger of New has
// written; zeros for any other.
func Lines(log *slog.Logger) []uint64 {
	n := make([]uint64, 4)
	if h, ok := log.Handler().(*handler); ok {
		for i := range n {
			n[i] = h.lines[i].Load()
		}
	}
	return n
}

// AddLines adds to the counts of Lines, for a program that goes on where another one has stopped.
func AddLines(log *slog.Logger, more []uint64) {
	if h, ok := log.Handler().(*handler); ok {
		for i := range min(len(more), len(h.lines)) {
			h.lines[i].Add(more[i])
		}
	}
}

// Flush waits for at most FlushLimit until every line so far is written.
func Flush(log *slog.Logger) {
	if h, ok := log.Handler().(*handler); ok && h.queue != nil {
		h.queue.flush(FlushLimit)
	}
}

// ClearLines sets the counts of Lines back to zero.
func ClearLines(log *slog.Logger) {
	if h, ok := log.Handler().(*handler); ok {
		for i := range h.lines {
			h.lines[i].Store(0)
		}
	}
}

// event returns what a line says.
func (h *handler) event(r slog.Record, st *style) event {
	e := event{when: r.Time, level: r.Level, process: st.process, pid: h.pid, message: r.Message}
	if e.when.IsZero() {
		e.when = time.Now()
	}
	e.fields = append(make([]slog.Attr, 0, len(h.fields)+r.NumAttrs()), h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		e.fields = flatten(e.fields, h.group, a)
		return true
	})
	return e
}

// WithAttrs returns a handler whose lines all have attrs.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.fields = slices.Clone(h.fields)
	for _, a := range attrs {
		c.fields = flatten(c.fields, h.group, a)
	}
	return &c
}

// WithGroup returns a handler that puts name and a dot before later fields.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// flatten appends a field to fields, or those of a group, each with its full name.
func flatten(fields []slog.Attr, group string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, g := range v.Group() {
			fields = flatten(fields, group, g)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	return append(fields, slog.Attr{Key: group + a.Key, Value: v})
}
