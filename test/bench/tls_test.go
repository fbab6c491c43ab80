package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// identities are made once, because RSA keys take long.
var identities = sync.OnceValues(func() (*rig, error) {
	r := &rig{}
	return r, r.makeIdentities()
})

// asker is a rig that needs no cluster.
func asker(t *testing.T) *rig {
	t.Helper()
	made, err := identities()
	if err != nil {
		t.Fatal(err)
	}
	return &rig{dir: t.TempDir(), ecdsa: made.ecdsa, rsa: made.rsa}
}

// greet listens for clients, and encrypts and welcomes each with TLS if there is a config.
func greet(t *testing.T, config *tls.Config) *pooler {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			welcome(conn, config)
		}
	}()
	return &pooler{port: l.Addr().(*net.TCPAddr).Port}
}

// welcome is the server's part of one short client.
func welcome(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
		return
	}
	if config == nil {
		_, _ = io.WriteString(conn, "N")
		return
	}
	_, _ = io.WriteString(conn, "S")
	secure := tls.Server(conn, config)
	if _, err := secure.Read(make([]byte, 1000)); err != nil {
		return
	}
	_, _ = secure.Write(append(message('R', "\x00\x00\x00\x00"), message('Z', "I")...))
	_, _ = secure.Read(make([]byte, 1000))
}

func serverConfig(t *testing.T, id identity) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(id.cert, id.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

func TestLoginsAreFullOrResumedAsTheCaseSays(t *testing.T) {
	r := asker(t)
	w := caseNamed(t, "tls-login-full-13")
	tickets := serverConfig(t, r.ecdsa)
	none := serverConfig(t, r.ecdsa)
	none.SessionTicketsDisabled = true
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, resumes := range []bool{false, true} {
			p, config := greet(t, tickets), clientTLS(version, resumes)
			for i := range 3 {
				if err := logInAndLeave(t.Context(), p, w, config, i == 0); err != nil {
					t.Errorf("version %x, resumed %v, login %d: %v", version, resumes, i+1, err)
				}
			}
		}
		p, config := greet(t, none), clientTLS(version, true)
		if err := logInAndLeave(t.Context(), p, w, config, true); err != nil {
			t.Error(err)
		}
		if err := logInAndLeave(t.Context(), p, w, config, false); err == nil {
			t.Errorf("version %x: a full handshake counts as a resumed one", version)
		}
	}
}

func TestHandshakeWithoutTLSIsAnError(t *testing.T) {
	r := asker(t)
	if err := shakeHands(t.Context(), greet(t, nil).addr(), clientTLS(tls.VersionTLS13, false)); err == nil {
		t.Error("a server without TLS has shaken hands")
	}
	if err := shakeHands(t.Context(), greet(t, serverConfig(t, r.rsa)).addr(), clientTLS(tls.VersionTLS13, false)); err != nil {
		t.Error(err)
	}
}

func TestLoginsOfSomeTimeAreCounted(t *testing.T) {
	p, w := greet(t, serverConfig(t, asker(t).ecdsa)), caseNamed(t, "tls-login-full-13")
	one := []*tls.Config{clientTLS(tls.VersionTLS13, false)}
	if n, err := repeatLogins(t.Context(), 50*time.Millisecond, p, w, one); err != nil || n < 1 {
		t.Errorf("%d logins, %v", n, err)
	}
	if _, err := repeatLogins(t.Context(), time.Minute, greet(t, nil), w, one); err == nil {
		t.Error("logins that failed were counted")
	}
}

func TestEveryArrivalCounts(t *testing.T) {
	var n atomic.Int64
	took, err := comeFor(t.Context(), 50*time.Millisecond, time.Millisecond, func() error { n.Add(1); return nil })
	if err != nil || len(took) != int(n.Load()) || n.Load() < 1 {
		t.Errorf("%d of %d clients counted, %v", len(took), n.Load(), err)
	}
	failed := errors.New("refused")
	if _, err := comeFor(t.Context(), 10*time.Millisecond, time.Millisecond, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// The time of a client begins when it was due, not when it had its turn.
func TestArrivalsThatWereLateHaveWaited(t *testing.T) {
	a := &arrivals{visit: func() error { return nil }}
	a.wg.Add(1)
	a.one(time.Now().Add(-time.Second))
	if len(a.took) != 1 || a.took[0] < 1e6 {
		t.Errorf("got %v microseconds", a.took)
	}
}

func TestPoolersThatDoNotKeepUpAreNotMeasured(t *testing.T) {
	var n atomic.Int64
	all := make(chan struct{})
	visit := func() error {
		if n.Add(1) == mostWaiting {
			close(all)
		}
		<-all
		return nil
	}
	if _, err := comeFor(t.Context(), time.Minute, 0, visit); err == nil || !strings.Contains(err.Error(), "wait at the same time") {
		t.Errorf("got %v", err)
	}
}

func TestBothPoolersEncryptTheSameLegsWithTheSameCertificate(t *testing.T) {
	r := asker(t)
	p := &pooler{dir: r.dir}
	for name, want := range map[string]struct {
		pgagroal, server, pgbouncer string
		id                          identity
	}{
		"select-simple-16": {},
		"tls-client-16":    {"tls = allow\n", "", "client_tls_sslmode = allow\n", r.ecdsa},
		"tls-both-16":      {"tls = allow\n", "tls = require\n", "server_tls_sslmode = require\n", r.ecdsa},
		"tls-storm":        {"tls = allow\n", "", "client_tls_sslmode = allow\n", r.rsa},
	} {
		w := caseNamed(t, name)
		main, server, err := r.pgagroalTLS(p, w)
		if err != nil || !strings.Contains(main, want.pgagroal) || server != want.server || (main == "") != (w.tls == noLeg) {
			t.Errorf("%s: pgagroal has %q and %q, %v", name, main, server, err)
		}
		bouncer, err := r.pgbouncerTLS(p, w)
		if err != nil || !strings.Contains(bouncer, want.pgbouncer) || strings.Contains(bouncer, "server_tls") != (w.tls == bothLegs) {
			t.Errorf("%s: PgBouncer has %q, %v", name, bouncer, err)
		}
		if w.tls == noLeg {
			continue
		}
		if cert, err := os.ReadFile(filepath.Join(r.dir, "tls.crt")); err != nil || string(cert) != string(want.id.cert) {
			t.Errorf("%s: another certificate, %v", name, err)
		}
	}
}

func TestGoalsOfTLSAreHeldAgainstPgBouncer(t *testing.T) {
	r := &results{}
	r.add("tls-login-full-13", "PgBouncer session", map[string]float64{perCPU: 1000})
	r.add("tls-login-full-13", "pgagroal session epoll", map[string]float64{perCPU: 1201})
	r.add("tls-login-full-13", "pgagroal session io_uring", map[string]float64{perCPU: 1199})
	want := map[string]bool{"pgagroal session epoll to PgBouncer session": true, "pgagroal session io_uring to PgBouncer session": false}
	if d := cmp.Diff(want, judged(t, "tls-login-full-13", r, perCPU)); d != "" {
		t.Error(d)
	}
	r.add("tls-storm", "PgBouncer session", map[string]float64{p99: 2})
	r.add("tls-storm", "pgagroal session epoll", map[string]float64{p99: 3.1})
	if got := judged(t, "tls-storm", r, p99); len(got) != 1 || got["pgagroal session epoll to PgBouncer session"] {
		t.Errorf("storm: %v", got)
	}
	r.add("tls-idle", "pgagroal transaction epoll", map[string]float64{memoryEach: 9.9})
	if got := judged(t, "tls-idle", r, memoryEach); !got["pgagroal transaction epoll to -"] {
		t.Errorf("idle clients: %v", got)
	}
}
