package supervisor

import (
	"crypto/rand"
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// loadClientTLS reads the certificates and keys for clients, and what checks their own
// certificates, if they are offered TLS. The supervisor does this because workers open no
// files.
func loadClientTLS(c *config.Config) (ipc.ClientTLS, []ipc.ServerTLS, error) {
	if !c.OffersTLS() {
		return ipc.ClientTLS{}, nil, nil
	}
	m, err := tlspolicy.Load(c.ClientTLSFiles())
	if err != nil {
		return ipc.ClientTLS{}, nil, err
	}
	opts, err := c.ClientTLSOptions()
	if err != nil {
		return ipc.ClientTLS{}, nil, err
	}
	var parts []ipc.ServerTLS
	for i, p := range m.Pairs {
		t := ipc.ServerTLS{Server: ipc.ForClients - i, Certificate: string(p.Chain), Key: ipc.Secret(p.Key)}
		if i == 0 {
			t.CA, t.CRL = string(m.CA), string(m.CRL)
		}
		parts = append(parts, t.Split()...)
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return ipc.ClientTLS{
		Required: c.TLS == config.TLSRequire, Pairs: len(m.Pairs), Options: tlsOptions(opts), TicketSeed: ipc.Secret(seed),
	}, parts, nil
}

func tlsOptions(o tlspolicy.Options) ipc.TLSOptions {
	t := ipc.TLSOptions{MinVersion: o.MinVersion, Ciphers: o.Ciphers}
	for _, c := range o.Curves {
		t.Curves = append(t.Curves, uint16(c))
	}
	return t
}

// loadServerTLS reads what TLS to the servers needs: workers and prober open no files.
func loadServerTLS(c *config.Config) ([]ipc.ServerTLS, error) {
	var all []ipc.ServerTLS
	for i, sv := range c.InSlots() {
		if sv.TLS == config.TLSOff {
			continue
		}
		t, err := TLSOf(sv)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", sv.Name, err)
		}
		t.Server = i
		all = append(all, t.Split()...)
	}
	return all, nil
}

// TLSOf reads what TLS to a server needs. The result names no server yet.
func TLSOf(sv *config.Server) (ipc.ServerTLS, error) {
	m, err := tlspolicy.Load(sv.TLSFiles())
	if err != nil {
		return ipc.ServerTLS{}, err
	}
	opts, err := sv.TLSOptions()
	if err != nil {
		return ipc.ServerTLS{}, err
	}
	t := ipc.ServerTLS{
		Mode: sv.TLS, Host: sv.Host, Direct: sv.TLSNegotiation == "direct", Binding: sv.ChannelBinding,
		CA: string(m.CA), CRL: string(m.CRL), Options: tlsOptions(opts),
	}
	if len(m.Pairs) > 0 {
		t.Certificate, t.Key = string(m.Pairs[0].Chain), ipc.Secret(m.Pairs[0].Key)
	}
	return t, nil
}
