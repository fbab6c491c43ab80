package supervisor

import (
	"crypto/rand"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// loadClientTLS reads the certificate and key for clients, if they are offered TLS. The
// supervisor does this because workers open no files.
func loadClientTLS(c *config.Config) (ipc.ClientTLS, error) {
	if !c.OffersTLS() {
		return ipc.ClientTLS{}, nil
	}
	m, err := tlspolicy.Load(c.ClientTLSFiles())
	if err != nil {
		return ipc.ClientTLS{}, err
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return ipc.ClientTLS{
		Required: c.TLS == config.TLSRequire, Certificate: string(m.Pairs[0].Chain), Key: ipc.Secret(m.Pairs[0].Key),
		TicketSeed: ipc.Secret(seed),
	}, nil
}
