package tlsmem

import (
	"crypto"
	"crypto/tls"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// slow is a private key whose signatures wait until they are allowed.
type slow struct {
	crypto.Signer
	begun  chan struct{}
	allow  chan struct{}
	atOnce atomic.Int32
	most   atomic.Int32 // more than 1 at a time, 0 for never
}

func (s *slow) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if n := s.atOnce.Add(1); n > 1 {
		s.most.Store(n)
	}
	defer s.atOnce.Add(-1)
	s.begun <- struct{}{}
	<-s.allow
	return s.Signer.Sign(rand, digest, opts)
}

// gated returns a Config whose certificate has a slow key.
func gated(t *testing.T, version uint16) (*tls.Config, *slow) {
	t.Helper()
	cert := certificate(t)
	key := &slow{Signer: cert.PrivateKey.(crypto.Signer), begun: make(chan struct{}, 100), allow: make(chan struct{})}
	cert.PrivateKey = key
	return serverConfig(cert, version), key
}

func got(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(bound):
		t.Fatal(what)
	}
}

// begin carries the client's first flight to the server.
func (p *pair) begin(t *testing.T) {
	t.Helper()
	for !p.carry(t, p.client, p.server) {
		got(t, "the client doesn't begin", p.woken)
	}
}

func TestHandshakesComputeOneAtATime(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			config, key := gated(t, version)
			gate := NewGate(1)
			stalled := gatedPair(t, gate, config, clientConfig(version), 1<<20) // never sends anything
			var all []*pair
			for range 5 {
				p := gatedPair(t, gate, config, clientConfig(version), 1<<20)
				p.begin(t)
				all = append(all, p)
			}
			got(t, "no handshake computes", key.begun)
			for range 1000 {
				runtime.Gosched() // another one could begin now
			}
			close(key.allow)
			for _, p := range all {
				if s, c := p.handshake(t); s != nil || c != nil {
					t.Fatal(s, c)
				}
			}
			if most := key.most.Load(); most != 0 {
				t.Errorf("%d at a time", most)
			}
			if done, _ := stalled.server.Handshake(); done {
				t.Error("the stalled one has ended")
			}
			if len(gate.places) != 0 {
				t.Error("a place is still taken")
			}
		})
	}
}

func TestHandshakeThatQueuesEndsWithAbort(t *testing.T) {
	config, key := gated(t, tls.VersionTLS13)
	gate := NewGate(1)
	first := gatedPair(t, gate, config, clientConfig(tls.VersionTLS13), 1<<20)
	first.begin(t)
	got(t, "it doesn't compute", key.begun)
	second := gatedPair(t, gate, config, clientConfig(tls.VersionTLS13), 1<<20)
	second.begin(t)
	second.server.Abort()
	wait(t, second.server)
	if _, err := second.server.Handshake(); CauseOf(err) != CauseAborted {
		t.Errorf("%v", err)
	}
	first.server.Abort() // while it computes
	close(key.allow)
	wait(t, first.server)
	if len(gate.places) != 0 {
		t.Error("a place is still taken")
	}
}

func TestHandshakeOfAPeerThatHasLeftQueuesNoLonger(t *testing.T) {
	config, key := gated(t, tls.VersionTLS13)
	gate := NewGate(1)
	first := gatedPair(t, gate, config, clientConfig(tls.VersionTLS13), 1<<20)
	first.begin(t)
	got(t, "it doesn't compute", key.begun)
	second := gatedPair(t, gate, config, clientConfig(tls.VersionTLS13), 1<<20)
	second.begin(t)
	second.server.End()
	second.server.End()
	wait(t, second.server)
	if _, err := second.server.Handshake(); CauseOf(err) != CauseNoCloseNotify {
		t.Errorf("%v", err)
	}
	close(key.allow)
	if s, c := first.handshake(t); s != nil || c != nil {
		t.Fatal(s, c)
	}
	if len(gate.places) != 0 {
		t.Error("a place is still taken")
	}
}
