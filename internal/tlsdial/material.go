package tlsdial

import (
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// ClientMaterial takes the certificates that clients are shown, and what checks theirs, out of parts that were joined by
// index.
func ClientMaterial(t ipc.ClientTLS, joined map[int]*ipc.ServerTLS) (m tlspolicy.Material, err error) {
	for i := range t.Pairs {
		part := joined[ipc.ForClients-i]
		if part == nil {
			return m, fmt.Errorf("certificate %d of %d is missing", i+1, t.Pairs)
		}
		delete(joined, ipc.ForClients-i)
		m.Pairs = append(m.Pairs, tlspolicy.Pair{Chain: []byte(part.Certificate), Key: tlspolicy.Secret(part.Key.Reveal())})
		if part.CA != "" {
			m.CA = []byte(part.CA)
		}
		if part.CRL != "" {
			m.CRL = []byte(part.CRL)
		}
	}
	return m, nil
}
