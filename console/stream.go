package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

const (
	// maxStreams is how many pages are served live. Others are told to come back.
	maxStreams = 64
	// streamLimit is how long a page may take to read what it was sent.
	streamLimit = 10 * time.Second
)

// hub asks for a snapshot each second while a page is open, writes it once, and gives it to
// all pages. A page that reads slowly misses snapshots, and a page that reads nothing is
// dropped: none has a queue of more than one.
type hub struct {
	web   *web
	every time.Duration // between two snapshots
	limit time.Duration // streamLimit

	mu      sync.Mutex
	streams map[*stream]bool
	stop    context.CancelFunc // of the goroutine that asks, while there are streams
	sampler sampler
	last    *frame // of the newest snapshot
}

// frame is a snapshot, ready to be sent. Nobody changes it.
type frame struct {
	of      *snapshot
	err     error
	status  []byte
	sample  []byte // nil if there is none
	history []byte
}

// stream is one page.
type stream struct {
	next chan *frame // the newest one that wasn't sent yet
}

func newHub(p *web) *hub {
	return &hub{web: p, every: freshFor, limit: streamLimit, streams: map[*stream]bool{}}
}

// frame returns a snapshot as it is sent.
func (h *hub) frame(s *snapshot) *frame {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.last
	if last != nil && last.of == s {
		return last
	}
	total := s.total()
	x := h.sampler.note(s, total)
	f := &frame{of: s}
	f.status, f.err = h.web.document(s, total, x)
	if f.err == nil && x != nil {
		f.sample, f.err = encode([]sample{*x})
	}
	if last != nil && last.of.historyTo == s.historyTo {
		f.history = last.history
	} else if f.err == nil {
		f.history, f.err = encode(struct{ History []json.RawMessage }{append([]json.RawMessage{}, s.history...)})
	}
	if f.err == nil {
		h.last = f
	}
	return f
}

// join adds a page, and has snapshots asked for if it is the first one. There is no room if
// it returns nil. samples are those that were made before.
func (h *hub) join() (s *stream, samples []sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= maxStreams {
		return nil, nil
	}
	s = &stream{next: make(chan *frame, 1)}
	h.streams[s] = true
	if h.last != nil && time.Since(h.last.of.taken) < 2*h.every {
		shown := *h.last
		shown.sample = nil // it is among samples
		s.next <- &shown
	}
	if len(h.streams) == 1 {
		ctx, stop := context.WithCancel(context.Background())
		h.stop = stop
		go func() {
			_ = logline.Guarded(h.web.log, func() error { h.pump(ctx); return nil })
		}()
	}
	return s, append([]sample{}, h.sampler.kept...)
}

// leave removes a page. Nobody asks for snapshots when the last one has left.
func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	if len(h.streams) == 0 {
		h.stop()
	}
}

// pump gives snapshots to all pages until ctx ends.
func (h *hub) pump(ctx context.Context) {
	for ctx.Err() == nil {
		pause := time.NewTimer(h.every)
		var f *frame
		if s, err := h.web.feed.snapshot(ctx); err != nil {
			f = &frame{err: err}
		} else {
			f = h.frame(s)
		}
		h.give(ctx, f)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// give offers a frame to every page, in place of the one that it hasn't taken yet.
func (h *hub) give(ctx context.Context, f *frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return // those that are there now have another pump
	}
	for s := range h.streams {
		select {
		case <-s.next:
		default:
		}
		s.next <- f
	}
}

// onEvents sends snapshots as server-sent events for as long as the page reads them.
func (p *web) onEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	s, samples := p.hub.join()
	if s == nil {
		h.Set("Retry-After", "30")
		plain(w, http.StatusServiceUnavailable, "too many pages are open")
		return
	}
	defer p.hub.leave(s)
	out := &events{w: w, c: http.NewResponseController(w), limit: p.hub.limit}
	// The limits of a request don't fit: this answer has no end.
	if out.c.SetReadDeadline(time.Time{}) != nil {
		return
	}
	if text, err := encode(samples); err == nil {
		out.add("samples", text)
	}
	for out.send() == nil {
		select {
		case f := <-s.next:
			out.frame(f)
		case <-r.Context().Done():
			return
		}
	}
}

// events writes server-sent events.
type events struct {
	w         http.ResponseWriter
	c         *http.ResponseController
	limit     time.Duration
	b         bytes.Buffer
	began     bool   // a history was sent
	historyTo uint64 // the last entry of it
}

func (e *events) add(name string, data []byte) {
	e.b.WriteString("event: " + name + "\ndata: ")
	e.b.Write(data)
	e.b.WriteString("\n\n")
}

// frame adds the events of a snapshot: what isn't there any more when the page asks again
// first, and last the status, with which it draws.
func (e *events) frame(f *frame) {
	if f.err != nil {
		if text, err := encode(struct{ Message string }{f.err.Error()}); err == nil {
			e.add("failure", text)
		}
		return
	}
	if !e.began || e.historyTo != f.of.historyTo {
		e.began, e.historyTo = true, f.of.historyTo
		e.add("history", f.history)
	}
	if f.sample != nil {
		e.add("samples", f.sample)
	}
	e.add("status", f.status)
}

// send writes what was added. A page that doesn't read it within the limit has failed.
func (e *events) send() error {
	defer e.b.Reset()
	if err := e.c.SetWriteDeadline(time.Now().Add(e.limit)); err != nil {
		return err
	}
	if _, err := e.w.Write(e.b.Bytes()); err != nil {
		return err
	}
	return e.c.Flush()
}
