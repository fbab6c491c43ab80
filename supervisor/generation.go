package supervisor

import (
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// configuration is what is in effect, and what may be soon.
type configuration struct {
	generation
	reload reload
	follow follow
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
	// consoleTLS is for the metrics port, in parts, and certificates are those of all files, for
	// the console to show.
	consoleTLS   []ipc.ServerTLS
	certificates []ipc.ConsoleCertificate
	admins       admins
}

// newGeneration reads the files that a configuration names. It takes a while: keys are
// derived for each user whose password isn't that of the generation before, if there is one.
func newGeneration(gen uint64, c *config.Config, salt ipc.Secret, before *generation) (*generation, error) {
	g := &generation{gen: gen, cfg: c, certificates: certificates(c)}
	var err error
	if g.users, err = workerUsers(c, salt, before); err != nil {
		return nil, err
	}
	if g.tls, g.clientTLS, err = loadClientTLS(c); err != nil {
		return nil, err
	}
	if g.serverTLS, err = loadServerTLS(c); err != nil {
		return nil, err
	}
	if g.consoleTLS, err = loadConsoleTLS(c); err != nil {
		return nil, err
	}
	g.admins, err = newAdmins(c, salt, g.clientTLS)
	return g, err
}

// withUsers returns the generation that differs from g in its users alone.
func (g *generation) withUsers(gen uint64, c *config.Config, salt ipc.Secret) (*generation, error) {
	users, err := workerUsers(c, salt, g)
	if err != nil {
		return nil, err
	}
	next := *g
	next.gen, next.cfg, next.users = gen, c, users
	next.admins, err = newAdmins(c, salt, g.clientTLS)
	return &next, err
}

// verifier returns the verifier of an entry if its password is still the same, else "".
func (g *generation) verifier(kind ipc.UserKind, u config.Credential) ipc.Secret {
	if g == nil {
		return ""
	}
	had := g.cfg.Users
	if kind == ipc.UserFrontend {
		had = g.cfg.FrontendUsers
	}
	if !slices.Contains(had, u) {
		return ""
	}
	i := slices.IndexFunc(g.users, func(m ipc.ConfigUser) bool { return m.Kind == kind && m.Name == u.Name })
	if i < 0 {
		return ""
	}
	return g.users[i].Verifier
}
