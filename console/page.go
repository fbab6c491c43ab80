package console

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// maxPageClients is how many connections to the web console there are at a time. They don't
// count with those to the metrics, so that a crowd that watches a failover doesn't blind the
// alerts.
const maxPageClients = 128

// policy lets the page load nothing but its own files, and nobody show it in a frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// files are what the page is made of.
//
//go:embed web
var files embed.FS

// assets are the paths of the files, with their types.
var assets = []struct{ path, file, kind string }{
	{"/{$}", "page.html", "text/html; charset=utf-8"},
	{"/index.html", "page.html", "text/html; charset=utf-8"},
	{"/console.js", "console.js", "text/javascript; charset=utf-8"},
	{"/console.css", "console.css", "text/css; charset=utf-8"},
	{"/icon.svg", "icon.svg", "image/svg+xml"},
	{"/uplot.js", "uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"},
	{"/uplot.css", "uplot/uPlot.min.css", "text/css; charset=utf-8"},
	{"/uplot.txt", "uplot/LICENSE", "text/plain; charset=utf-8"},
}

// web is the web console: its files, and its data.
type web struct {
	*server
	names names
	hub   *hub
}

func newWeb(s *server, n names) *web {
	p := &web{server: s, names: n}
	p.hub = newHub(p)
	return p
}

// handler answers what the web console is asked. Only GET and HEAD are: there is nothing
// to change.
func (p *web) handler() http.Handler {
	mux := http.NewServeMux()
	for _, a := range assets {
		text, err := files.ReadFile("web/" + a.file)
		if err != nil {
			panic(err) // it is in the program
		}
		mux.HandleFunc("GET "+a.path, serveFile(a.kind, text))
	}
	mux.HandleFunc("GET /api", p.onDocument)
	mux.HandleFunc("GET /api/{$}", p.onDocument)
	mux.HandleFunc("GET /api/history", p.onHistory)
	mux.HandleFunc("GET /api/events", p.onEvents)
	return p.guarded(mux)
}

// serveFile answers with a file, or that a browser has it already.
func serveFile(kind string, text []byte) http.HandlerFunc {
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(text))[:16])
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", "no-cache") // it may keep the file, but asks each time: pgagroal may have been updated
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}
}

// guarded sets the headers of every answer, and refuses what a page of somebody else makes a
// browser ask.
func (p *web) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !p.names.include(r.Host):
			plain(w, http.StatusMisdirectedRequest, "the web console isn't called by this name: see console_names in pgagroal.conf(5)")
		case strings.HasPrefix(r.URL.Path, "/api") && site != "" && site != "same-origin" && site != "none":
			plain(w, http.StatusForbidden, "another site may not ask this")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// names are the names by which a browser may call the web console. A page of a stranger can
// give its own name the address of this machine, and then read the answers; the header Host
// has the stranger's name.
type names struct {
	known []string
	leaf  *x509.Certificate // its names count, too; nil for none
}

// newNames adds the name of this machine and those of the first certificate of a chain.
func newNames(known []string, chain string) names {
	var n names
	for _, k := range known {
		n.known = append(n.known, strings.ToLower(k))
	}
	if host, err := os.Hostname(); err == nil {
		n.known = append(n.known, strings.ToLower(host))
	}
	if block, _ := pem.Decode([]byte(chain)); block != nil {
		n.leaf, _ = x509.ParseCertificate(block.Bytes) // what can't be parsed can't be served either
	}
	return n
}

// include reports whether host, which may have a port, is one of them. An address always is:
// no stranger's name is one.
func (n names) include(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	switch {
	case host == "":
		return false
	case host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(n.known, host):
		return true
	}
	return n.leaf != nil && n.leaf.VerifyHostname(host) == nil
}
