package logline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/ncruces/go-strftime"
)

// Levels beyond those of slog.
const (
	LevelTrace = slog.Level(-8)
	LevelFatal = slog.Level(12)
)

// New returns a logger that writes one line per event of level or above to w,
// each in one Write. prefix is a strftime format; process is the name of the
// process, such as "worker 2". If w is a Queue, its report of lost lines has the same
// format.
func New(w io.Writer, prefix string, level slog.Leveler, process string) *slog.Logger {
	h := &handler{shared: &shared{w: w}, process: process + "[" + strconv.Itoa(os.Getpid()) + "]"}
	h.style.Store(&style{prefix, level})
	if q, ok := w.(*Queue); ok {
		q.report(func(lost int) []byte {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log are lost, it could not be written", 0)
			r.AddAttrs(slog.Int("lines", lost))
			return h.line(r)
		})
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
	process string
	fields  []byte // those of WithAttrs, rendered, each after a blank
	group   string // what WithGroup puts before the name of a field, with a final dot
}

// shared is what a handler shares with the copies that WithAttrs and WithGroup make.
type shared struct {
	mu    sync.Mutex // guards w
	w     io.Writer
	style atomic.Pointer[style]
	lines [4]atomic.Uint64 // info, warn, error and fatal
}

// style is what Restyle changes.
type style struct {
	prefix string
	level  slog.Leveler
}

// Restyle changes prefix and level of a logger of New, and of all loggers that were made from
// it by With.
func Restyle(log *slog.Logger, prefix string, level slog.Leveler) {
	if h, ok := log.Handler().(*handler); ok {
		h.style.Store(&style{prefix, level})
	}
}

// Enabled reports whether lines of level are written.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.style.Load().level.Level()
}

// Handle writes one line.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		h.lines[min(int(r.Level-slog.LevelInfo)/4, 3)].Add(1)
	}
	line := h.line(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(line)
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

func (h *handler) line(r slog.Record) []byte {
	var b bytes.Buffer
	when := r.Time
	if when.IsZero() {
		when = time.Now()
	}
	if prefix := h.style.Load().prefix; prefix != "" {
		b.WriteString(clean(strftime.Format(prefix, when)))
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%-5s %s %s", name(r.Level), h.process, clean(r.Message))
	b.Write(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, h.group, a)
		return true
	})
	b.WriteByte('\n')
	return b.Bytes()
}

// WithAttrs returns a handler whose lines all have attrs.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b bytes.Buffer
	b.Write(h.fields)
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	c := *h
	c.fields = b.Bytes()
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

func appendAttr(b *bytes.Buffer, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, g := range v.Group() {
			appendAttr(b, group, g)
		}
		return
	}
	if a.Key == "" {
		return
	}
	b.WriteByte(' ')
	b.WriteString(clean(group + a.Key))
	b.WriteByte('=')
	b.WriteString(quote(v.String()))
}

// quote returns text unchanged if it is one printable word, otherwise quoted.
func quote(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r == '"' || r == '=' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}) {
		return strconv.Quote(text)
	}
	return text
}

// clean replaces control characters and line ends by blanks.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

func name(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	case l < LevelFatal:
		return "ERROR"
	}
	return "FATAL"
}
