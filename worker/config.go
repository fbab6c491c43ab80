package worker

import (
	"crypto/tls"
	"fmt"
	"strconv"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// config is one generation of the configuration. It never changes once it is in effect,
// so goroutines share it without a lock.
type config struct {
	ipc.ConfigBegin
	servers   []ipc.ConfigServer
	hba       []auth.Rule
	ident     []auth.IdentLine
	aliases   map[string]string // database by alias
	keep      map[pool.Key]int  // how many idle backends the worker keeps, by pool
	limits    limits
	passwords map[string]bool // users for whom the supervisor has a password for the servers
	known     map[string]bool // users that this worker can authenticate
	frontend  map[string]bool // users with a password of their own for pgagroal
	superuser string          // pgagroal's own user at the servers, empty for none
	// verifiers are the same in all generations: what clients have shown stays known.
	verifiers *auth.Verifiers
	entries   map[string]auth.Verifier
	reset     []string // statements of the reset query, empty for none
	// tls is for clients that encrypt their connections, nil if they can't. All generations
	// of the configuration share handshakes, which bounds how many of them compute at a time.
	tls        *tls.Config
	handshakes tlsmem.Gate
	// quick says that these handshakes are cheap enough for the event loop.
	quick bool
	// toServers has the TLS settings of servers by index; nil means clear text.
	toServers map[int]*tlsdial.Server
	// methods are what servers may ask for, by index.
	methods map[int]auth.Methods
	// reader understands what clients leave in their sessions, so that these are kept; nil if
	// sessions aren't kept.
	reader relay.Reader
	// former reads for kept sessions that began with another reader, elsewhere; nil if there was none.
	former *relay.Knowing
}

// draft is a configuration that is still being received.
type draft struct {
	cfg     config
	users   int // ConfigUser messages so far
	parts   int // messages about TLS so far
	servers map[int]*ipc.ServerTLS
}

func (d *draft) add(m ipc.Message) error {
	switch m := m.(type) {
	case *ipc.ConfigServer:
		d.cfg.servers = append(d.cfg.servers, *m)
		d.cfg.methods[m.Index] = auth.NewMethods(m.Methods)
	case *ipc.ConfigTLS:
		d.parts++
		t := d.servers[m.Part.Server]
		if t == nil {
			t = &ipc.ServerTLS{}
			d.servers[m.Part.Server] = t
		}
		t.Join(m.Part)
	case *ipc.ConfigUser:
		d.users++
		return d.addUser(m)
	case *ipc.ConfigHBA:
		rule, err := newRule(m)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", m.File, m.Line, err)
		}
		d.cfg.hba = append(d.cfg.hba, rule)
	case *ipc.ConfigIdent:
		line, err := auth.NewIdentLine(m.Map, m.System, m.User, m.AnyUser)
		if err != nil {
			return fmt.Errorf("the map %s: %w", m.Map, err)
		}
		d.cfg.ident = append(d.cfg.ident, line)
	case *ipc.ConfigLimit:
		d.cfg.limits.add(m)
		for _, a := range m.Aliases {
			d.cfg.aliases[a] = m.Database.List[0]
		}
		if m.Keep > 0 {
			d.cfg.keep[pool.Key{Database: m.Database.List[0], User: m.User.List[0]}] = m.Keep
		}
	}
	return nil
}

func newRule(m *ipc.ConfigHBA) (auth.Rule, error) {
	rule := auth.Rule{
		Type: auth.ConnType(m.Type), Method: auth.Method(m.Method), ClientCert: m.ClientCert, ClientName: m.ClientName, Map: m.Map,
		File: m.File, Line: m.Line,
	}
	var err error
	if rule.Address, err = auth.ParseAddress(m.Address); err != nil {
		return rule, err
	}
	if rule.Database, err = newNames(m.Database); err != nil {
		return rule, err
	}
	rule.User, err = newNames(m.User)
	return rule, err
}

func newNames(n ipc.Names) (auth.Names, error) {
	return auth.NewNames(n.All, n.SameUser, n.List, n.Patterns)
}

func (d *draft) addUser(m *ipc.ConfigUser) error {
	switch m.Kind {
	case ipc.UserServer:
		d.cfg.passwords[m.Name] = m.Password
		d.cfg.known[m.Name] = true
	case ipc.UserFrontend:
		d.cfg.known[m.Name], d.cfg.frontend[m.Name] = true, true
	case ipc.UserSuperuser:
		d.cfg.superuser = m.Name
	}
	if m.Verifier == "" {
		return nil
	}
	v, err := auth.ParseVerifier(m.Verifier.Reveal())
	if err != nil {
		return fmt.Errorf("user %s: %w", m.Name, err)
	}
	d.cfg.entries[m.Name] = v
	return nil
}

// finish completes the configuration, and checks that no message of it is missing.
func (d *draft) finish(end *ipc.ConfigEnd, previous *config) (*config, error) {
	c := &d.cfg
	if end.Gen != c.Gen || len(c.servers) != end.Servers || len(c.hba) != end.HBA ||
		len(c.limits.lines) != end.Limits || d.users != end.Users || d.parts != end.TLS || len(c.ident) != end.Ident {
		return nil, fmt.Errorf("configuration %d is incomplete", end.Gen)
	}
	c.verifiers = auth.NewVerifiers([]byte(c.ScramSalt.Reveal()))
	c.handshakes = tlsmem.NewGate(handshakesAtOnce)
	if previous != nil {
		c.verifiers, c.handshakes = previous.verifiers, previous.handshakes
	}
	if err := d.offerTLS(); err != nil {
		return nil, err
	}
	for i, t := range d.servers {
		var err error
		if c.toServers[i], err = tlsdial.New(t); err != nil {
			return nil, fmt.Errorf("server %d: %w", i, err)
		}
	}
	c.reset = relay.ResetQueries(c.ResetQuery)
	c.reader = readerOf(&c.ConfigBegin)
	return c, nil
}

// readerOf returns what understands what clients leave in their sessions, nil if sessions aren't kept.
func readerOf(c *ipc.ConfigBegin) relay.Reader {
	switch {
	case c.Pipeline != "session":
	case c.KeepSessions == "on":
		return relay.Trusting{}
	case c.KeepSessions == "known":
		return relay.NewKnowing(c.KeepFunctions)
	}
	return nil
}

// offerTLS makes ready what the TLS handshakes of clients need.
func (d *draft) offerTLS() error {
	t := d.cfg.TLS
	if t.Pairs == 0 {
		return nil
	}
	m, err := tlsdial.ClientMaterial(t, d.servers)
	if err != nil {
		return err
	}
	tickets := tlspolicy.Tickets{Seed: tlspolicy.Secret(t.TicketSeed.Reveal()), Use: "clients"}
	options := tlsdial.Options(t.Options)
	d.cfg.quick = m.Quick(options)
	d.cfg.tls, err = m.Listen(options, tickets)
	return err
}

func newDraft(m *ipc.ConfigBegin) *draft {
	return &draft{
		cfg: config{
			ConfigBegin: *m, passwords: make(map[string]bool), known: make(map[string]bool), frontend: make(map[string]bool),
			entries: make(map[string]auth.Verifier), aliases: make(map[string]string),
			keep: make(map[pool.Key]int), toServers: make(map[int]*tlsdial.Server),
			methods: make(map[int]auth.Methods),
		},
		servers: make(map[int]*ipc.ServerTLS),
	}
}

// checked reports whether this worker authenticates the user; otherwise only the server
// can. It is true for the superuser, which is for pgagroal alone: a client that logs in as
// this user gets the answer for a wrong password.
func (c *config) checked(user string) bool { return c.known[user] || user == c.superuser && user != "" }

// realDatabase resolves an alias.
func (c *config) realDatabase(name string) string {
	if real, ok := c.aliases[name]; ok {
		return real
	}
	return name
}

// serverName returns the name of a server's section, for the log.
func (w *worker) serverName(server int) string {
	for _, s := range w.cfg.servers {
		if s.Index == server {
			return s.Name
		}
	}
	return strconv.Itoa(server)
}

// slots returns one more than the greatest index of a server.
func (c *config) slots() int {
	n := 0
	for _, s := range c.servers {
		n = max(n, s.Index+1)
	}
	return n
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
