package supervisor

import (
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// configuration is what is in effect, and what may be soon.
type configuration struct {
	generation
	reload reload
}

// generation is one configuration, and what was made of its files for the children, which
// open no file.
type generation struct {
	gen uint64
	cfg *config.Config
	// users are what workers learn of the credential files.
	users []ipc.ConfigUser
	tls   ipc.ClientTLS
	// clientTLS is what checks clients' certificates, in parts.
	clientTLS []ipc.ServerTLS
	// serverTLS is what workers and prober learn of TLS to the servers, in parts.
	serverTLS []ipc.ServerTLS
}

// newGeneration reads the files that a configuration names. It takes a while: keys are
// derived for each user.
func newGeneration(gen uint64, c *config.Config, salt ipc.Secret) (*generation, error) {
	g := &generation{gen: gen, cfg: c}
	var err error
	if g.users, err = workerUsers(c, salt); err != nil {
		return nil, err
	}
	if g.tls, g.clientTLS, err = loadClientTLS(c); err != nil {
		return nil, err
	}
	g.serverTLS, err = loadServerTLS(c)
	return g, err
}
