package logline

import (
	"bytes"
	"log/slog"
)

// maxTapped is the most bytes of an object that a tap gets.
const maxTapped = 2 << 10

// Tap has take called with each line of level info or above that a logger of New, or one that was
// made from it, writes or would write at that level: an object as of log_format = json. take may be
// called from several goroutines, and must not log.
func Tap(log *slog.Logger, take func(object []byte)) {
	if h, ok := log.Handler().(*handler); ok {
		h.tap.Store(&take)
	}
}

// tapped gives a line to the tap.
func (h *handler) tapped(r slog.Record, st *style) {
	take := h.tap.Load()
	if take == nil || r.Level < slog.LevelInfo {
		return
	}
	as := style{Settings: Settings{Kind: Stream, JSON: true}, process: st.process, most: maxTapped}
	(*take)(bytes.TrimSuffix(as.line(h.event(r, st)), []byte("\n")))
}
