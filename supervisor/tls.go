package supervisor

import (
	"crypto/rand"
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// loadClientTLS reads the certificate and key for clients, if they are offered TLS. The
// supervisor does this because workers open no files.
// The parts, which may be none, check the certificates of clients.
func loadClientTLS(c *config.Config) (ipc.ClientTLS, []ipc.ServerTLS, error) {
	if !c.OffersTLS() {
		return ipc.ClientTLS{}, nil, nil
	}
	m, err := tlspolicy.Load(c.ClientTLSFiles())
	if err != nil {
		return ipc.ClientTLS{}, nil, err
	}
	var parts []ipc.ServerTLS
	if m.CA != nil {
		parts = ipc.ServerTLS{Server: ipc.ForClients, CA: string(m.CA), CRL: string(m.CRL)}.Split()
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return ipc.ClientTLS{
		Required: c.TLS == config.TLSRequire, Certificate: string(m.Pairs[0].Chain), Key: ipc.Secret(m.Pairs[0].Key),
		TicketSeed: ipc.Secret(seed),
	}, parts, nil
}

// loadServerTLS reads what TLS to the servers needs: workers and prober open no files.
func loadServerTLS(c *config.Config) ([]ipc.ServerTLS, error) {
	var all []ipc.ServerTLS
	for i := range c.Servers {
		sv := &c.Servers[i]
		if sv.TLS == config.TLSOff {
			continue
		}
		m, err := tlspolicy.Load(sv.TLSFiles())
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", sv.Name, err)
		}
		t := ipc.ServerTLS{
			Server: i, Mode: sv.TLS, Host: sv.Host, Direct: sv.TLSNegotiation == "direct", Binding: sv.ChannelBinding,
			CA: string(m.CA), CRL: string(m.CRL),
		}
		if len(m.Pairs) > 0 {
			t.Certificate, t.Key = string(m.Pairs[0].Chain), ipc.Secret(m.Pairs[0].Key)
		}
		all = append(all, t.Split()...)
	}
	return all, nil
}
