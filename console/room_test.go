package console

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// TestSilentClientsKeepNobodyOut fills every place with clients that say nothing, or nothing
// more, with and without TLS. A request is answered all the same, and a client whose request
// is being answered keeps its place.
func TestSilentClientsKeepNobodyOut(t *testing.T) {
	for name, secure := range map[string]bool{"clear text": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var own ipc.ServerTLS
			if secure {
				cert, key := pems(t, certificateOf(t, "localhost", nil))
				own = ipc.ServerTLS{Certificate: cert, Key: ipc.Secret(key)}
			}
			s, err := newServer(slog.New(slog.DiscardHandler), &ipc.ConsoleConfigure{Detail: "pool", MaxSeries: 100, RequestMS: 600_000}, own, nil)
			if err != nil {
				t.Fatal(err)
			}
			slow, begun := make(chan struct{}), make(chan struct{})
			h := http.NewServeMux()
			h.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
				close(begun)
				<-slow
				_, _ = io.WriteString(w, "slow")
			})
			h.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready") })
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			const places = 8
			defer s.start([]net.Listener{l}, h, places)()
			r := requester{t, l.Addr().String(), secure}
			answer := make(chan string, 1)
			go func() { answer <- r.get("/slow") }()
			<-begun
			for range 3 * places {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			for range places { // each client keeps its connection
				if got := r.get("/readyz"); got != "ready" {
					t.Errorf("beside silent clients: %q", got)
				}
			}
			close(slow)
			if got := <-answer; got != "slow" {
				t.Errorf("the request that was being answered: %q", got)
			}
		})
	}
}

// requester asks with a connection of its own each time, which it keeps.
type requester struct {
	t      *testing.T
	addr   string
	secure bool
}

func (r requester) get(path string) string {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r.t.Cleanup(tr.CloseIdleConnections)
	scheme := "http://"
	if r.secure {
		scheme = "https://"
	}
	c := http.Client{Transport: tr, Timeout: time.Minute}
	a, err := c.Get(scheme + r.addr + path)
	if err != nil {
		return err.Error()
	}
	defer a.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, a.Body); err != nil {
		return err.Error()
	}
	return b.String()
}
