package console

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// maxClients is how many connections there are at a time; see room.
	maxClients = 128
	// maxHeader bounds the header of a request in bytes.
	maxHeader = 16 << 10
	// writeLimit is how long a client may take to read an answer, idleLimit how long it may
	// keep a connection without a request.
	writeLimit = 30 * time.Second
	idleLimit  = 2 * time.Minute
	// defaultCache is metrics_cache_max_size if only metrics_cache_max_age is set.
	defaultCache = 256 << 10
)

// server answers HTTP.
type server struct {
	log     *slog.Logger
	cfg     *ipc.ConsoleConfigure
	feed    *feed
	secure  *secure // nil without TLS
	metrics metrics
	about   about
	now     func() time.Time

	mu    sync.Mutex
	cache body // the last answer with metrics
}

// body is an answer with metrics.
type body struct {
	text []byte
	of   *snapshot
	made time.Time
}

func newServer(log *slog.Logger, cfg *ipc.ConsoleConfigure, t ipc.ServerTLS, f *feed) (*server, error) {
	s := &server{log: log, cfg: cfg, feed: f, metrics: newMetrics(), now: time.Now}
	if t.Certificate == "" {
		return s, nil
	}
	var err error
	s.secure, err = newSecure(t)
	return s, err
}

// start serves at every listener until stop is called, which waits for the end. There are so
// many clients at a time at most.
func (s *server) start(listeners []net.Listener, handler http.Handler, clients int) (stop func()) {
	h := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Duration(s.cfg.RequestMS) * time.Millisecond,
		ReadTimeout: time.Duration(s.cfg.RequestMS) * time.Millisecond, WriteTimeout: writeLimit, IdleTimeout: idleLimit,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	room := newRoom(clients)
	h.ConnState = room.onState
	var all sync.WaitGroup
	for _, l := range listeners {
		l = &bounded{Listener: l, room: room}
		if s.secure != nil {
			l = s.secure.over(l, h.ReadHeaderTimeout)
		}
		all.Go(func() {
			if err := logline.Guarded(s.log, func() error { return h.Serve(l) }); err != nil && err != http.ErrServerClosed {
				s.log.Error("a port can't be served any more", "address", l.Addr().String(), "error", err)
			}
		})
	}
	return func() {
		h.Close()
		all.Wait()
	}
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.onMetrics)
	mux.HandleFunc("GET /healthz", s.onHealth)
	mux.HandleFunc("GET /readyz", s.onReady)
	mux.HandleFunc("GET /{$}", s.onIndex)
	mux.HandleFunc("GET /index.html", s.onIndex)
	return mux
}

// onMetrics answers with all metrics.
func (s *server) onMetrics(w http.ResponseWriter, r *http.Request) {
	text, err := s.exposition(r.Context())
	if err != nil {
		s.unavailable(w, err)
		return
	}
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	_, _ = w.Write(text)
}

// exposition returns the metrics as text.
func (s *server) exposition(ctx context.Context) ([]byte, error) {
	maxAge := time.Duration(s.cfg.CacheMaxAgeMS) * time.Millisecond
	s.mu.Lock()
	kept := s.cache
	s.mu.Unlock()
	if kept.text != nil && time.Since(kept.made) < maxAge {
		return kept.text, nil
	}
	snap, err := s.feed.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	text, err := s.render(snap)
	if err != nil {
		return nil, err
	}
	if most := s.cacheSize(); maxAge > 0 && len(text) <= most {
		s.mu.Lock()
		s.cache = body{text: text, of: snap, made: time.Now()}
		s.mu.Unlock()
	}
	return text, nil
}

func (s *server) cacheSize() int {
	if s.cfg.CacheMaxSize == 0 {
		return defaultCache
	}
	return int(s.cfg.CacheMaxSize)
}

// render writes a snapshot in the format of Prometheus.
func (s *server) render(snap *snapshot) ([]byte, error) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(&collector{
		metrics: s.metrics, about: s.about, snap: snap, now: s.now(), detail: s.cfg.Detail, maxSeries: s.cfg.MaxSeries,
	})
	families, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("collect metrics: %w", err)
	}
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return nil, fmt.Errorf("write metrics: %w", err)
		}
	}
	return b.Bytes(), nil
}

// onHealth answers whether the supervisor's loop works.
func (s *server) onHealth(w http.ResponseWriter, r *http.Request) {
	if _, err := s.feed.facts(r.Context()); err != nil {
		s.unavailable(w, err)
		return
	}
	plain(w, http.StatusOK, "ok")
}

// onReady answers whether a client that connects now can write. Nobody is asked for that:
// the supervisor knows it.
func (s *server) onReady(w http.ResponseWriter, r *http.Request) {
	begin, err := s.feed.facts(r.Context())
	switch {
	case err != nil:
		s.unavailable(w, err)
	case !begin.Writable:
		plain(w, http.StatusServiceUnavailable, begin.Reason)
	default:
		plain(w, http.StatusOK, "ready")
	}
}

func (s *server) unavailable(w http.ResponseWriter, err error) {
	s.log.Warn("a request can't be answered", "error", err)
	plain(w, http.StatusServiceUnavailable, err.Error())
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}

// onIndex answers with a page that names the metrics.
func (s *server) onIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>pgagroal</title></head><body>\n" +
		"<h1>pgagroal</h1>\n<p><a href=\"/metrics\">/metrics</a> for Prometheus, <a href=\"/healthz\">/healthz</a>: pgagroal works, " +
		"<a href=\"/readyz\">/readyz</a>: a client that connects now can write.</p>\n<table>\n")
	for _, r := range append(append([]row{}, compatible...), ours...) {
		fmt.Fprintf(&b, "<tr><td>%s%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
			prefix, r.name, r.kind, strings.Join(r.labels, ", "), html.EscapeString(r.help))
	}
	b.WriteString("</table>\n</body></html>\n")
	_, _ = w.Write([]byte(b.String()))
}
