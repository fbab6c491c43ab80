package worker

import (
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// config is one generation of the configuration. It never changes once it is in
// effect, so that goroutines share it without a lock.
type config struct {
	ipc.ConfigBegin
	servers   []ipc.ConfigServer
	hba       []auth.Rule
	limits    []ipc.ConfigLimit
	passwords map[string]string // towards the servers
	frontend  map[string]string // what clients must show, where it differs
	verifiers *auth.Verifiers
	keys      *auth.ClientKeys
}

// draft is a configuration that is still being received.
type draft struct {
	cfg   config
	users int
}

func (d *draft) add(m ipc.Message) error {
	switch m := m.(type) {
	case *ipc.ConfigServer:
		d.cfg.servers = append(d.cfg.servers, *m)
	case *ipc.ConfigUser:
		d.users++
		d.addUser(m)
	case *ipc.ConfigHBA:
		addr, err := auth.ParseAddress(m.Address)
		if err != nil {
			return fmt.Errorf("hba line %d: %w", m.Line, err)
		}
		d.cfg.hba = append(d.cfg.hba, auth.Rule{
			Type: auth.ConnType(m.Type), Database: m.Database, User: m.User,
			Address: addr, Method: auth.Method(m.Method), Line: m.Line,
		})
	case *ipc.ConfigLimit:
		d.cfg.limits = append(d.cfg.limits, *m)
	}
	return nil
}

func (d *draft) addUser(m *ipc.ConfigUser) {
	switch m.Kind {
	case ipc.UserServer:
		d.cfg.passwords[m.Name] = m.Password.Reveal()
	case ipc.UserSuperuser:
		if _, ok := d.cfg.passwords[m.Name]; !ok {
			d.cfg.passwords[m.Name] = m.Password.Reveal()
		}
	case ipc.UserFrontend:
		d.cfg.frontend[m.Name] = m.Password.Reveal()
	}
}

// finish checks that nothing is missing and derives the keys of the users.
func (d *draft) finish(end *ipc.ConfigEnd, previous *config) (*config, error) {
	c := &d.cfg
	if end.Gen != c.Gen || len(c.servers) != end.Servers || len(c.hba) != end.HBA ||
		len(c.limits) != end.Limits || d.users != end.Users {
		return nil, fmt.Errorf("configuration %d is incomplete", end.Gen)
	}
	c.verifiers, c.keys = auth.NewVerifiers([]byte(c.ScramSalt.Reveal())), auth.NewClientKeys(1024)
	if previous != nil {
		c.verifiers, c.keys = previous.verifiers, previous.keys
	}
	shown := make(map[string]string, len(c.passwords))
	for name := range c.passwords {
		shown[name], _ = c.clientPassword(name)
	}
	if err := c.verifiers.Replace(shown); err != nil {
		return nil, fmt.Errorf("derive the keys of the users: %w", err)
	}
	return c, nil
}

func newDraft(m *ipc.ConfigBegin) *draft {
	return &draft{cfg: config{
		ConfigBegin: *m, passwords: make(map[string]string), frontend: make(map[string]string),
	}}
}

// clientPassword returns what a client must know to be let in as user; known is
// false for users that only the server can check.
func (c *config) clientPassword(user string) (password string, known bool) {
	if p, ok := c.frontend[user]; ok {
		return p, true
	}
	p, ok := c.passwords[user]
	return p, ok
}

// realDatabase resolves an alias.
func (c *config) realDatabase(name string) string {
	for _, l := range c.limits {
		for _, a := range l.Aliases {
			if a == name {
				return l.Database
			}
		}
	}
	return name
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
