package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/leftovers"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
)

// CheckEnv is what Check needs to know in addition to the files.
type CheckEnv struct {
	UID        uint32   // user that the daemon and its scripts run as
	GIDs       []uint32 // that user's groups, the primary one first
	NoAccount  bool     // that user is unknown, so scripts aren't checked
	TCPPassed  bool     // the service manager passed a listening TCP socket
	UnixPassed bool     // the service manager passed a listening Unix socket
	FileLimit  uint64   // soft limit of open files; 0 skips the check
	Asked      bool     // an operator asks (pgagroal -t), so what a start only warns of is an error

	// Resolve returns the addresses of a host. If it is nil or fails, two servers count as the
	// same only if their names are equal.
	Resolve func(host string) ([]netip.Addr, error)
	// Listen returns why this machine can't listen on the entries of host. If it is nil, only the start finds out.
	Listen func(hosts []string) error
}

// reservedFiles is how many descriptors a worker needs in addition to those of its connections.
const reservedFiles = 30

// OwnFiles returns how many descriptors the supervisor needs in addition to those of clients: for its sockets, its
// files and the Go runtime, two for each worker's link, four for each entry of host (IPv4 and IPv6), two for each server,
// and some for pgagroal-cli and the start of a child. If rules name hosts, the 16 look-ups of clients' names need two
// each.
func OwnFiles(c *Config) int {
	lookUps := 0
	if c.namesHosts() {
		lookUps = 32
	}
	return 28 + lookUps + 4*len(c.ListenHosts()) + 2*c.EffectiveWorkers() + 2*len(c.Servers)
}

// namesHosts says whether a rule of pgagroal_hba.conf has a host name, so that names of clients are looked up.
func (c *Config) namesHosts() bool {
	return slices.ContainsFunc(c.HBA, func(r HBARule) bool {
		return r.Address != All && r.Address != "" && r.Address != sameHost && r.Address != sameNet && !strings.Contains(r.Address, "/")
	})
}

// MaxListen is the greatest number of addresses that host may resolve to.
const MaxListen = 16

// Check returns every reason not to start, or not to reload, with c.
func (c *Config) Check(env CheckEnv) []error {
	k := checker{c: c, env: env}
	k.listen()
	k.ports()
	k.places()
	k.sizes()
	k.reserve()
	k.rules()
	k.users()
	k.servers()
	k.pipeline()
	k.tls()
	k.serverTLS()
	k.requireAuth()
	k.health()
	k.failover()
	k.limits()
	return k.errs
}

// CheckCredentials returns the reasons of Check for which the credential files are to blame.
func (c *Config) CheckCredentials(env CheckEnv) []error {
	k := checker{c: c, env: env}
	k.reserve()
	k.users()
	k.limits()
	return k.errs
}

type checker struct {
	c        *Config
	env      CheckEnv
	errs     []error
	resolved map[string][]netip.Addr // by name, so that a name service that hangs costs one time-out a name
}

// fail reports a problem of a main key.
func (k *checker) fail(key, format string, args ...any) {
	file, line := k.c.at(key)
	k.errs = append(k.errs, &FileError{File: file, Line: line, Key: key, Msg: fmt.Sprintf(format, args...)})
}

// failAt reports a problem at a line of file.
func (k *checker) failAt(file string, line int, format string, args ...any) {
	k.errs = append(k.errs, &FileError{File: file, Line: line, Msg: fmt.Sprintf(format, args...)})
}

// failServer reports a problem of a server's section.
func (k *checker) failServer(s *Server, format string, args ...any) {
	k.failAt(cmp.Or(s.File, k.c.Paths.Config), s.Line, format, args...)
}

func (k *checker) listen() {
	c := k.c
	if !k.env.TCPPassed {
		k.host()
		if c.Port == 0 {
			k.fail("port", "not set; name the port to listen on")
		}
	}
	if k.env.UnixPassed {
		return
	}
	if c.UnixSocketDir == "" {
		k.fail("unix_socket_dir", "not set; name an existing directory")
		return
	}
	k.writable("unix_socket_dir", c.UnixSocketDir)
	if n := len(path.Join(c.UnixSocketDir, fmt.Sprintf(".s.pgagroal.%d", c.Port))); n > maxSocketPath {
		k.fail("unix_socket_dir", "too long: its sockets would have names of %d bytes, and the system allows %d; name a shorter one", n, maxSocketPath)
	}
}

// ports checks that each port is that of one key: the second one could not be opened.
func (k *checker) ports() {
	c, first := k.c, map[int]string{}
	for _, p := range c.Ports() {
		if p.Key == "port" && k.env.TCPPassed {
			continue
		}
		if other := first[p.Port]; other != "" {
			k.fail(p.Key, "%d is that of the key %s, too; choose another one", p.Port, other)
			continue
		}
		first[p.Port] = p.Key
	}
}

// host checks the addresses to listen on.
func (k *checker) host() {
	if k.c.Host == "" {
		k.fail("host", "not set; name the address to listen on, or * for all")
		return
	}
	had := len(k.errs)
	for _, h := range k.c.ListenHosts() {
		_, err := netip.ParseAddr(h)
		switch {
		case h == "":
			k.fail("host", "an entry of %q is empty; write names or addresses with one comma between two", k.c.Host)
		case strings.Contains(h, "/"):
			k.fail("host", "%s is a path; name an address here, and the directory of the Unix socket in unix_socket_dir", h)
		case strings.ContainsAny(h, " \t"):
			k.fail("host", "%q is not a name or an address; write a comma between two addresses", h)
		case strings.ContainsAny(h, ":[]") && err != nil:
			k.fail("host", "%s is not an address; write it without brackets and port, which is a key of its own", h)
		case strings.Contains(h, "*") && h != "*":
			k.fail("host", "%s is not an address; write * for all addresses, 0.0.0.0 for those of IPv4, :: for those of IPv6", h)
		}
	}
	if len(k.errs) > had || k.env.Listen == nil {
		return
	}
	if err := k.env.Listen(k.c.ListenHosts()); err != nil {
		k.fail("host", "%v; name addresses of this machine", err)
	}
}

// KeepFunctions returns the functions of failover_keep_functions, as package leftovers compares them.
func (c *Config) KeepFunctions() []string {
	names, _ := leftovers.ParseFunctions(c.FailoverKeepFunctions) // Check has looked
	return names
}

// ListenHosts returns the entries of host.
func (c *Config) ListenHosts() []string { return commaList(c.Host) }

// commaList splits a list with commas between its entries, which may be empty.
func commaList(text string) []string {
	list := strings.Split(text, ",")
	for i, entry := range list {
		list[i] = strings.TrimSpace(entry)
	}
	return list
}

// maxSocketPath is the size of sun_path in sockaddr_un, without the final zero byte.
const maxSocketPath = 107

func (k *checker) sizes() {
	c := k.c
	if need := OwnFiles(c) + 2*c.EffectiveWorkers(); k.env.FileLimit > 0 && uint64(need) > k.env.FileLimit {
		k.fail("workers", "%d workers and %d servers need %d open files, and the limit is %d; raise the limit, or start fewer workers",
			c.EffectiveWorkers(), len(c.Servers), need, k.env.FileLimit)
	}
	if k.env.FileLimit > 0 && uint64(c.MaxConnections)+reservedFiles > k.env.FileLimit {
		k.fail("max_connections", "%d connections need %d open files, and the limit is %d; raise the limit, or lower the value",
			c.MaxConnections, c.MaxConnections+reservedFiles, k.env.FileLimit)
	}
}

// reserve checks that reserved_connections leaves something for other users, and that somebody may use them.
func (k *checker) reserve() {
	c := k.c
	switch {
	case c.ReservedConnections == 0:
	case c.ReservedConnections >= c.MaxConnections:
		k.fail("reserved_connections", "%d of max_connections = %d leaves none for other users; lower it", c.ReservedConnections, c.MaxConnections)
	case c.MaxClients > 0 && c.ReservedConnections >= c.MaxClients:
		k.fail("reserved_connections", "%d of max_clients = %d leaves none for other users; lower it", c.ReservedConnections, c.MaxClients)
	case !slices.ContainsFunc(c.Admins, func(a Credential) bool { return hasUser(c.Users, a.Name) }):
		k.fail("reserved_connections", "set, and no user of the users file is in %s; add one there with pgagroal-admin, or set it to 0", FileAdmins)
	}
}

// rules checks that the lines of pgagroal_hba.conf agree with the other files.
func (k *checker) rules() {
	c := k.c
	if len(c.HBA) == 0 {
		k.failAt(c.Paths.HBA, 0, "there is no entry, so nobody could connect; add one")
	}
	for _, r := range c.HBA {
		if r.Method == methodMD5 && !c.MD5 {
			k.failAt(r.File, r.Line, "the method md5, and md5 is off; write scram-sha-256")
		}
		if (r.Method == methodCert || r.ClientCert != "") && (c.TLSCAFile == "" || !c.OffersTLS()) {
			k.failAt(r.File, r.Line, "the rule asks for a client certificate, which needs tls and tls_ca_file; set both, or take that out")
		}
		if r.Map != "" && !slices.ContainsFunc(c.Ident, func(l IdentLine) bool { return l.Map == r.Map }) {
			k.failAt(r.File, r.Line, "the map %s has no line in %s; add one, or nobody could log in by this rule", r.Map, FileIdent)
		}
	}
}

func (k *checker) users() {
	c := k.c
	k.authQuery()
	k.ownPasswords()
	if c.RotateFrontendPasswordTimeout > 0 {
		// Ignoring it would keep passwords valid that clients of C pgagroal can't use.
		k.fail("rotate_frontend_password_timeout", "set, but the new passwords of %d characters would be known to pgagroal-vault alone, "+
			"which this version doesn't have; set it to 0, and change passwords with pgagroal-admin user edit", c.RotateFrontendPasswordLength)
	}
	for _, u := range c.FrontendUsers {
		if !hasUser(c.Users, u.Name) {
			k.failAt(c.Paths.Frontend, 0, "the frontend user %s is not in the users file; add it there", u.Name)
		}
	}
}

func (k *checker) authQuery() {
	c := k.c
	if !c.AuthQuery {
		return
	}
	switch {
	case c.AuthQueryCredential() != nil:
	case c.AuthQueryUser == "":
		k.fail("auth_query", "on without anybody who may ask; create %s, or set auth_query_user", FileSuperuser)
	default:
		k.fail("auth_query_user", "%s has no entry in the users or superuser file; add one", c.AuthQueryUser)
	}
	if !strings.Contains(c.AuthQueryStatement, "$1") {
		k.fail("auth_query_statement", "it doesn't say $1, which is the name of the user; write it where the name belongs, without quotes")
	}
	if n := len(c.AuthQueryStatement); n > maxAuthQuery {
		k.fail("auth_query_statement", "it has %d bytes, and the most is %d; put it into a function at the server", n, maxAuthQuery)
	}
	if c.AuthQueryDatabase == "" {
		k.fail("auth_query_database", "it is empty; name a database, or write %s for that of the client", ClientsDatabase)
	}
}

// ownPasswords refuses passwords that don't fit into a message to the prober.
func (k *checker) ownPasswords() {
	own := []*Credential{k.c.Superuser, k.c.ProbeCredential()}
	if k.c.AuthQuery {
		own = append(own, k.c.AuthQueryCredential())
	}
	for i, u := range own {
		if u != nil && len(u.Password) > MaxOwnPassword && slices.Index(own, u) == i {
			k.failAt(k.c.Paths.Config, 0, "the password of %s, as whom pgagroal itself logs in, is longer than %d bytes; set a shorter one",
				u.Name, MaxOwnPassword)
		}
	}
}

func hasUser(list []Credential, name string) bool {
	return slices.ContainsFunc(list, func(u Credential) bool { return u.Name == name })
}

func (k *checker) servers() {
	c := k.c
	if n := c.Slots(); c.slots != nil && n > MaxSlots {
		k.failAt(c.Paths.Config, 0, "%d different servers were configured since the start, and %d is the most; restart pgagroal", n, MaxSlots)
	}
	if len(c.Servers) == 0 {
		k.failAt(c.Paths.Config, 0, "there is no server; add a section with host and port")
	}
	primary := ""
	for i := range c.Servers {
		s := &c.Servers[i]
		if s.Host == "" {
			k.failServer(s, "the server [%s] has no host; add it", s.Name)
		}
		if s.Port == 0 {
			k.failServer(s, "the server [%s] has no port; add it", s.Name)
		}
		if what := cmp.Or(refuseHost(s.Host), socketHost(*s)); what != "" {
			k.failServer(s, "the server [%s]: %s", s.Name, what)
		}
		if s.Primary && primary != "" {
			k.failServer(s, "[%s] and [%s] both say primary = on; keep one", primary, s.Name)
		}
		if s.Primary {
			primary = s.Name
		}
		for _, other := range c.Servers[:i] {
			if k.sameEndpoint(*s, other) {
				k.failServer(s, "[%s] is the same server as [%s]; delete one", s.Name, other.Name)
			}
		}
	}
}

// socketHost returns what is wrong with a host that is a path, otherwise "".
func socketHost(s Server) string {
	if !strings.Contains(s.Host, "/") {
		return ""
	}
	dir, file := path.Split(s.Host)
	info, err := os.Stat(s.Host)
	port, named := strings.CutPrefix(file, ".s.PGSQL.")
	switch socket := path.Join(s.Host, fmt.Sprintf(".s.PGSQL.%d", s.Port)); {
	case s.Host[0] != '/':
		return fmt.Sprintf("host = %s is neither a name nor an absolute path; write the whole path of the directory of the server's socket", s.Host)
	case named:
		return fmt.Sprintf("host = %s is a socket; write its directory and its number: host = %s, port = %s", s.Host, path.Clean(dir), port)
	case err == nil && !info.IsDir():
		return fmt.Sprintf("host = %s is not a directory; write the directory of the server's socket", s.Host)
	case len(socket) > maxSocketPath:
		return fmt.Sprintf("the name of its socket, %s, has %d bytes, and the system allows %d; have the server use a shorter directory", socket, len(socket), maxSocketPath)
	}
	return ""
}

func (k *checker) sameEndpoint(a, b Server) bool {
	if a.Port != b.Port || a.Host == "" {
		return false
	}
	if strings.EqualFold(a.Host, b.Host) {
		return true
	}
	for _, x := range k.addresses(a.Host) {
		if slices.Contains(k.addresses(b.Host), x) {
			return true
		}
	}
	return false
}

func (k *checker) addresses(host string) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	if k.env.Resolve == nil || strings.HasPrefix(host, "/") {
		return nil
	}
	if addrs, ok := k.resolved[host]; ok {
		return addrs
	}
	found, _ := k.env.Resolve(host) // without an answer only the names are compared
	addrs := make([]netip.Addr, 0, len(found))
	for _, addr := range found {
		addrs = append(addrs, addr.Unmap())
	}
	if k.resolved == nil {
		k.resolved = map[string][]netip.Addr{}
	}
	k.resolved[host] = addrs
	return addrs
}

func (k *checker) pipeline() {
	if k.c.Pipeline == PipelinePerformance && k.c.Failover {
		k.fail("pipeline", "performance knows no failover; use session, or failover = off")
	}
}

// tls checks what clients are offered.
func (k *checker) tls() {
	c := k.c
	for _, f := range []struct{ key, path, what string }{
		{"tls_cert_file", c.TLSCertFile, "a certificate"}, {"tls_key_file", c.TLSKeyFile, "the certificate's private key"},
	} {
		if c.OffersTLS() && f.path == "" {
			k.fail(f.key, "tls = %s needs %s; name its file", c.TLS, f.what)
			return
		}
	}
	opts, err := c.ClientTLSOptions()
	if err != nil {
		key, what, _ := strings.Cut(err.Error(), ": ")
		k.fail(key, "%s", what)
		return
	}
	if !c.OffersTLS() {
		return
	}
	if certs, keys := len(commaList(c.TLSCertFile)), len(commaList(c.TLSKeyFile)); certs != keys {
		k.fail("tls_key_file", "%d files, and tls_cert_file has %d; name the key of each certificate, in the same order", keys, certs)
		return
	}
	m, err := tlspolicy.Load(c.ClientTLSFiles())
	if err == nil {
		_, err = m.Listen(opts, tlspolicy.Tickets{})
	}
	if err != nil {
		k.fail("tls", "%v", err)
	}
}

// serverTLS checks how servers are spoken to.
func (k *checker) serverTLS() {
	for i := range k.c.Servers {
		s := &k.c.Servers[i]
		wrong := func(format string, args ...any) {
			k.failServer(s, "[%s]: "+format, append([]any{s.Name}, args...)...)
		}
		switch {
		case s.TLS == TLSOff && (s.TLSCertFile+s.TLSKeyFile+s.TLSCAFile+s.TLSCRLFile != "" || s.ChannelBinding == "require"):
			wrong("tls_* and channel_binding do nothing without tls; set tls, for instance to verify-full")
		case badOptions(s) != nil:
			wrong("%v", badOptions(s))
		case s.TLS == TLSOff:
		case strings.HasPrefix(s.Host, "/"):
			wrong("tls = %s on a Unix socket, where PostgreSQL has no TLS; set it to off", s.TLS)
		case s.TLSNegotiation == "direct" && s.TLS == TLSPrefer:
			wrong("tls_negotiation = direct needs tls = require or more, since no server answers no to it")
		default:
			m, err := tlspolicy.Load(s.TLSFiles())
			if err != nil {
				wrong("tls: %v", err)
				continue
			}
			mode, _ := tlspolicy.ParseMode(s.TLS) // the table has checked it
			if _, err := m.Dial(mode, s.Host, tlspolicy.Options{}); err != nil {
				wrong("tls = %s: %v", s.TLS, err)
			}
		}
	}
}

// requireAuth checks which methods servers may ask for.
func (k *checker) requireAuth() {
	for i := range k.c.Servers {
		s := &k.c.Servers[i]
		methods, wrong := parseRequireAuth(s.RequireAuth)
		if wrong == "" && s.ChannelBinding == "require" && methods != nil && !slices.Contains(methods, scramMethod) {
			wrong = "channel_binding = require needs " + scramMethod + "; allow it"
		}
		if wrong != "" {
			k.failAt(k.c.Paths.Config, s.Line, "[%s]: require_auth: %s", s.Name, wrong)
		}
	}
}

func badOptions(s *Server) error {
	_, err := s.TLSOptions()
	return err
}

func (k *checker) health() {
	c := k.c
	if c.HealthCheck && c.HealthCheckUser == "" {
		k.fail("health_check", "on without health_check_user; name the user to log in as")
	}
	if c.StartupValidation == StartupOn && c.HealthCheckUser == "" {
		k.fail("startup_validation", "on without health_check_user; name the user to log in as")
	}
	if why := c.ProbeUserUnknown(); why != "" && k.env.Asked {
		k.fail("health_check_user", "%s", why)
	}
}

func (k *checker) failover() {
	c := k.c
	if _, err := leftovers.ParseFunctions(c.FailoverKeepFunctions); err != nil {
		k.fail("failover_keep_functions", "%v", err)
	}
	if c.Failover && c.FailoverMode == ModeScript && c.FailoverScript == "" {
		k.fail("failover", "on without failover_script; name the script that promotes")
	}
	if c.Failover && len(c.Servers) < 2 {
		k.fail("failover", "on with fewer than two servers; add a standby")
	}
	if c.FailoverNotifyScript != "" {
		switch c.FailoverScript {
		case "":
			k.fail("failover_notify_script", "set without failover_script; set that too")
		case c.FailoverNotifyScript:
			k.fail("failover_notify_script", "the same file as failover_script; they do different work, name two")
		}
	}
	switch c.FailoverFenceScript {
	case "":
	case c.FailoverScript, c.FailoverNotifyScript:
		k.fail("failover_fence_script", "the same file as another script; they do different work, name another")
	}
	if c.ScriptrunnerSocket != "" || k.env.NoAccount {
		return // a script runner behind a socket runs as another user and checks its scripts itself
	}
	for _, s := range []struct {
		key, path string
		wanted    bool
	}{
		{"failover_script", c.FailoverScript, c.Failover && c.FailoverMode == ModeScript},
		{"failover_notify_script", c.FailoverNotifyScript, true},
		{"failover_fence_script", c.FailoverFenceScript, c.Failover && c.FailoverMode == ModeScript},
	} {
		if !s.wanted || s.path == "" {
			continue
		}
		if err := CheckScript(s.path, k.env.UID, k.env.GIDs); err != nil {
			k.fail(s.key, "%v", err)
		}
	}
}

func (k *checker) limits() {
	c := k.c
	sum := 0
	for _, l := range c.Limits {
		sum += l.MaxSize
		if sum > c.MaxConnections && sum-l.MaxSize <= c.MaxConnections {
			k.failAt(c.Paths.Limits, l.Line, "the sizes up to this line add up to %d, and max_connections is %d; lower them, or raise it",
				sum, c.MaxConnections)
		}
		unknown := func(name string) bool { return !hasUser(c.Users, name) }
		if (l.InitialSize > 0 || l.MinSize > 0) && (l.User.All || slices.ContainsFunc(l.User.List, unknown)) {
			k.failAt(c.Paths.Limits, l.Line, "connections can be opened ahead only for users of the users file, and %s is not there; add it, or drop the sizes",
				l.User)
		}
	}
}
