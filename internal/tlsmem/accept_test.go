package tlsmem

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"
	"time"
)

// accept does a handshake with Accept against a client whose bytes arrive in chunks.
func accept(t *testing.T, server, client *tls.Config, chunk int) (*pair, error, error) {
	t.Helper()
	p := &pair{woken: make(chan struct{}, 1), chunk: chunk}
	p.client = Client(client, new(Memory), discard, func() {
		select {
		case p.woken <- struct{}{}:
		default:
		}
	})
	t.Cleanup(p.client.Abort)
	deadline := time.After(bound)
	var errClient error
	dry := func(c *Conn) error {
		p.carry(t, c, p.client)
		for {
			var done bool
			done, errClient = p.client.Handshake()
			if out := p.client.Pending(); len(out) > 0 {
				n := min(len(out), chunk)
				defer p.client.Sent(n)
				return c.Feed(out[:n])
			}
			if done {
				c.End()
				return nil
			}
			select {
			case <-p.woken:
			case <-deadline:
				return errors.New("the client says nothing")
			}
		}
	}
	var err error
	p.server, err = Accept(server, new(Memory), nil, dry)
	t.Cleanup(p.server.Abort)
	p.carry(t, p.server, p.client)
	return p, err, errClient
}

// clientEnds waits until the client's handshake has ended, and returns its error.
func (p *pair) clientEnds(t *testing.T) error {
	t.Helper()
	deadline := time.After(bound)
	for {
		if done, err := p.client.Handshake(); done {
			return err
		}
		select {
		case <-p.woken:
		case <-deadline:
			t.Fatal("the client's handshake doesn't end")
		}
	}
}

func TestAcceptedConnectionCarriesData(t *testing.T) {
	for name, version := range versions {
		for _, chunk := range []int{1, 517, 1 << 20} {
			p, err, _ := accept(t, serverConfig(certificate(t), version), clientConfig(version), chunk)
			if err != nil {
				t.Fatalf("%s by %d: %v", name, chunk, err)
			}
			if err := p.clientEnds(t); err != nil {
				t.Fatalf("%s by %d: the client says %v", name, chunk, err)
			}
			p.carry(t, p.client, p.server)
			readAll(t, p.client)
			for _, way := range [][2]*Conn{{p.client, p.server}, {p.server, p.client}} {
				if err := way[1].Feed(sealed(t, way[0], []byte("a question"))); err != nil {
					t.Fatal(err)
				}
				if got := readAll(t, way[1]); !bytes.Equal(got, []byte("a question")) {
					t.Errorf("%s by %d: got %q", name, chunk, got)
				}
			}
			if f := p.server.Facts(); f.Version != version || f.EndPoint == nil {
				t.Errorf("%s by %d: facts are %+v", name, chunk, f)
			}
		}
	}
}

func TestAcceptRefusesWithAnAlert(t *testing.T) {
	client := clientConfig(tls.VersionTLS12)
	p, err, _ := accept(t, serverConfig(certificate(t), tls.VersionTLS13), client, 1<<20)
	if CauseOf(err) == CauseNone || CauseOf(err) == CauseAborted {
		t.Fatalf("got %v", err)
	}
	if err := p.clientEnds(t); CauseOf(err) != CauseAlert {
		t.Errorf("the client says %v", err)
	}
}

func TestAcceptEndsWhenItsCallerGivesUp(t *testing.T) {
	late := errors.New("too late")
	c, err := Accept(serverConfig(certificate(t), tls.VersionTLS13), new(Memory), []byte{22, 3, 1}, func(*Conn) error { return late })
	if !errors.Is(err, late) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, late) {
		t.Errorf("then %v", err)
	}
}

func TestAcceptStopsAtTheEndOfTheClient(t *testing.T) {
	_, err := Accept(serverConfig(certificate(t), tls.VersionTLS13), new(Memory), []byte{22, 3, 1}, func(c *Conn) error {
		c.End()
		return nil
	})
	if CauseOf(err) != CauseTruncated {
		t.Errorf("got %v", err)
	}
}
