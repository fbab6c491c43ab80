package ipc

// WorkerHello is a worker's first message.
type WorkerHello struct {
	Version int    `msgpack:"version"`
	PID     int    `msgpack:"pid"`
	Build   string `msgpack:"build"`
}

// RunnerHello is the runner's first message on every link.
type RunnerHello struct {
	Version int    `msgpack:"version"`
	PID     int    `msgpack:"pid"`
	Build   string `msgpack:"build"`
}

// Ping asks a worker for a sign of life.
type Ping struct {
	ID uint64 `msgpack:"id"`
}

// Pong answers Ping from the worker's event loop.
type Pong struct {
	ID uint64 `msgpack:"id"`
}

// ConfigBegin opens a configuration of generation Gen. Durations are in
// milliseconds.
type ConfigBegin struct {
	Gen    uint64 `msgpack:"gen"`
	Worker int    `msgpack:"worker"`
	// Pipeline is "session", later also "transaction" and "performance".
	Pipeline                string `msgpack:"pipeline"`
	EvBackend               string `msgpack:"ev_backend"`
	LogConnections          bool   `msgpack:"log_connections"`
	LogDisconnections       bool   `msgpack:"log_disconnections"`
	BlockingTimeoutMS       int64  `msgpack:"blocking_timeout_ms"`
	AuthenticationTimeoutMS int64  `msgpack:"authentication_timeout_ms"`
	IdleTimeoutMS           int64  `msgpack:"idle_timeout_ms"`
	MaxConnectionAgeMS      int64  `msgpack:"max_connection_age_ms"`
	MaxPools                int    `msgpack:"max_pools"`
	// Retries is how many more times a backend is tried for a client that must not wait.
	Retries        int    `msgpack:"retries"`
	ClientWaitMS   int64  `msgpack:"client_wait_ms"`
	ResetQuery     string `msgpack:"reset_query"`
	ResetOnFailure string `msgpack:"reset_on_failure"`
	ResetAlways    bool   `msgpack:"reset_always"`
	// ConnectionRetryMS is the pause before a backend is opened again.
	ConnectionRetryMS int64 `msgpack:"connection_retry_ms"`
	// Failover says that clients wait for a new primary instead of getting an error.
	Failover bool `msgpack:"failover"`
	// KeepSessions is failover_keep_sessions, KeepFunctions the names in failover_keep_functions.
	KeepSessions      string   `msgpack:"keep_sessions"`
	KeepFunctions     []string `msgpack:"keep_functions"`
	AllowUnknownUsers bool     `msgpack:"allow_unknown_users"`
	// CountClients says that there are limits of clients by user or database, so that each client that
	// has proven who it is needs an AdmitRequest with Count.
	CountClients bool   `msgpack:"count_clients"`
	KeepAlive    bool   `msgpack:"keep_alive"`
	NoDelay      bool   `msgpack:"nodelay"`
	Timers       Timers `msgpack:"timers"`
	// ProxyProtocol says that TCP connections begin with a PROXY header.
	ProxyProtocol bool `msgpack:"proxy_protocol"`
	// AddHost says that a client's address goes into its application_name.
	AddHost bool `msgpack:"application_name_add_host"`
	// ScramSalt gives all workers the same verifiers, so that a client can't tell the workers
	// apart. 16 bytes, new at each start of the supervisor.
	ScramSalt Secret    `msgpack:"scram_salt"`
	TLS       ClientTLS `msgpack:"tls"`
	AuthQuery AuthQuery `msgpack:"auth_query"`
}

// AuthQuery says whether and how the stored passwords of users that no file has are asked for.
type AuthQuery struct {
	On        bool  `msgpack:"on"`
	InClients bool  `msgpack:"in_clients"` // in the database of the client
	MaxAgeMS  int64 `msgpack:"max_age_ms"`
	MaxUsers  int   `msgpack:"max_users"`
	// MD5 says that clients may prove a password that is stored as an MD5 hash.
	MD5 bool `msgpack:"md5"`
}

// Timers are what a worker does after some time, in milliseconds; 0 is never.
type Timers struct {
	QueryMS             int64 `msgpack:"query_ms"`               // cancels a statement
	IdleInTransactionMS int64 `msgpack:"idle_in_transaction_ms"` // disconnects a client
	DisconnectMS        int64 `msgpack:"disconnect_ms"`          // disconnects a client that is idle
	DisconnectForce     bool  `msgpack:"disconnect_force"`       // also one that isn't
	// ValidateFirst says to test an idle backend before a client gets it, ValidateEveryMS how
	// often to test backends that stay idle.
	ValidateFirst   bool  `msgpack:"validate_first"`
	ValidateEveryMS int64 `msgpack:"validate_every_ms"`
	// AuthFailureMS is the shortest delay of the answer to a wrong password.
	AuthFailureMS int64 `msgpack:"auth_failure_ms"`
}

// ClientTLS is how clients may encrypt their connections. The zero value is: not at all.
type ClientTLS struct {
	Required bool `msgpack:"required"`
	// Pairs is how many certificates there are to choose from. They come as parts: see ForClients.
	Pairs   int        `msgpack:"pairs"`
	Options TLSOptions `msgpack:"options"`
	// TicketSeed gives all workers the same keys of session tickets: 32 bytes, new at each start.
	TicketSeed Secret `msgpack:"ticket_seed"`
}

// TLSOptions are versions, curves and ciphers by the numbers of the standard. The zero value of each
// means the default.
type TLSOptions struct {
	MinVersion uint16   `msgpack:"min_version"`
	Curves     []uint16 `msgpack:"curves"`
	Ciphers    []uint16 `msgpack:"ciphers"`
}

// ServerTLS is how a server is spoken to in TLS. A server without it is spoken to in clear text.
// What is too long for a packet comes in parts: see Split and Join.
type ServerTLS struct {
	Server int `msgpack:"server"` // its index, or ForClients
	// Mode is one of libpq's sslmode words from prefer on; Host is the name that a certificate is
	// checked against.
	Mode   string `msgpack:"mode"`
	Host   string `msgpack:"host"`
	Direct bool   `msgpack:"direct"` // TLS begins without an SSLRequest
	// Binding is disabled, prefer or require: whether a login by SCRAM is bound to the connection.
	Binding string     `msgpack:"binding"`
	Options TLSOptions `msgpack:"options"`
	// Certificate, followed by its intermediates, and Key are ours; CA and CRL check the server's.
	// All are in PEM form and may be empty.
	Certificate string `msgpack:"certificate"`
	Key         Secret `msgpack:"key"`
	CA          string `msgpack:"ca"`
	CRL         string `msgpack:"crl"`
	More        bool   `msgpack:"more"` // another part follows
}

// ForClients instead of a server's index is for TLS with clients: Certificate and Key are the pair
// that is shown first, CA and CRL check the certificates of clients, and nothing else counts. The
// next pairs have the indexes below it.
const ForClients = -1

// partSize is how much of each long text goes into one part, in bytes.
const partSize = 12 << 10

// Split returns the parts of t, each of which fits into a packet.
func (t ServerTLS) Split() []ServerTLS {
	cut := func(text *string) string {
		n := min(len(*text), partSize)
		part := (*text)[:n]
		*text = (*text)[n:]
		return part
	}
	key := t.Key.Reveal()
	var parts []ServerTLS
	for first := true; first || t.Certificate != "" || key != "" || t.CA != "" || t.CRL != ""; first = false {
		p := ServerTLS{Server: t.Server, Mode: t.Mode, Host: t.Host, Direct: t.Direct, Binding: t.Binding, Options: t.Options, More: true}
		p.Certificate, p.Key, p.CA, p.CRL = cut(&t.Certificate), Secret(cut(&key)), cut(&t.CA), cut(&t.CRL)
		parts = append(parts, p)
	}
	parts[len(parts)-1].More = false
	return parts
}

// Join adds the next part to the parts before it, whose sum is t; the zero value is the sum of none.
func (t *ServerTLS) Join(p ServerTLS) {
	p.Certificate, p.Key = t.Certificate+p.Certificate, t.Key+p.Key
	p.CA, p.CRL = t.CA+p.CA, t.CRL+p.CRL
	*t = p
}

// ConfigTLS is a part of what TLS to a server needs.
type ConfigTLS struct {
	Gen  uint64    `msgpack:"gen"`
	Part ServerTLS `msgpack:"part"`
}

// ConfigServer is one server section. Its address comes with ServerState.
type ConfigServer struct {
	Gen   uint64 `msgpack:"gen"`
	Index int    `msgpack:"index"`
	Name  string `msgpack:"name"`
	Host  string `msgpack:"host"`
	Port  int    `msgpack:"port"`
	// Methods are the words of require_auth that the server may ask for; empty for all.
	Methods []string `msgpack:"methods"`
}

// UserKind says what an entry of a credential file is for.
type UserKind uint8

// The kinds: a user with the password for the servers, a user with the password that clients show,
// and the superuser, as whom no client may log in.
const (
	UserServer UserKind = iota + 1
	UserFrontend
	UserSuperuser
)

// ConfigUser is one entry of a credential file, as far as a worker needs it.
type ConfigUser struct {
	Gen  uint64   `msgpack:"gen"`
	Kind UserKind `msgpack:"kind"`
	Name string   `msgpack:"name"`
	// Password says that there is a password for logins to servers. Only UserServer has one, and the
	// supervisor keeps it: see SecretRequest.
	Password bool `msgpack:"password"`
	// Verifier checks the password that a client shows. It is empty if another entry checks the
	// client, or if no client can log in as this user.
	Verifier Secret `msgpack:"verifier"`
}

// Names says which databases or users a line is for.
type Names struct {
	All      bool     `msgpack:"all"`
	SameUser bool     `msgpack:"same_user"` // the database with the user's name
	List     []string `msgpack:"list"`
	Patterns []string `msgpack:"patterns"` // regular expressions
}

// ConfigHBA is one line of pgagroal_hba.conf, in file order.
type ConfigHBA struct {
	Gen      uint64 `msgpack:"gen"`
	Line     int    `msgpack:"line"`
	Type     string `msgpack:"type"`
	Database Names  `msgpack:"database"`
	User     Names  `msgpack:"user"`
	// Address is a network, a word, a host name or the end of one; empty for the type local.
	Address    string `msgpack:"address"`
	Method     string `msgpack:"method"`
	ClientCert string `msgpack:"client_cert"`
	ClientName string `msgpack:"client_name"`
	Map        string `msgpack:"map"`
	File       string `msgpack:"file"`
}

// ConfigLimit is one line of pgagroal_databases.conf, in file order. How many backends it allows
// is the supervisor's.
type ConfigLimit struct {
	Gen      uint64   `msgpack:"gen"`
	Database Names    `msgpack:"database"`
	Aliases  []string `msgpack:"aliases"` // of the only database
	User     Names    `msgpack:"user"`
	// QueryMS is used instead of Timers.QueryMS, unless it is negative.
	QueryMS int64 `msgpack:"query_ms"`
	// Keep is how many idle backends of the only database and user the worker keeps: its share of
	// MIN_SIZE.
	Keep int `msgpack:"keep"`
}

// ConfigIdent is one line of pgagroal_ident.conf, in file order.
type ConfigIdent struct {
	Gen     uint64 `msgpack:"gen"`
	Map     string `msgpack:"map"`
	System  string `msgpack:"system"`
	User    string `msgpack:"user"`
	AnyUser bool   `msgpack:"any_user"`
}

// ConfigEnd closes generation Gen. Its counts show the worker whether anything is missing.
type ConfigEnd struct {
	Gen     uint64 `msgpack:"gen"`
	Servers int    `msgpack:"servers"`
	Users   int    `msgpack:"users"`
	HBA     int    `msgpack:"hba"`
	Limits  int    `msgpack:"limits"`
	TLS     int    `msgpack:"tls"` // parts
	Ident   int    `msgpack:"ident"`
}

// ConfigDone says that generation Gen is complete. The first one of a worker is in effect then, a
// later one waits for ConfigCommit, unless Error says why it can't be used. Reactor names the event
// loop: "epoll" or "io_uring". For the operator, Confined lists what the kernel forbids the worker,
// and Unconfined what the kernel can't forbid, and why.
type ConfigDone struct {
	Gen        uint64   `msgpack:"gen"`
	Error      string   `msgpack:"error"`
	Reactor    string   `msgpack:"reactor"`
	Confined   []string `msgpack:"confined"`
	Unconfined []string `msgpack:"unconfined"`
}

// ConfigCommit puts a complete generation in effect. A complete generation with another number is
// dropped, so the number of the generation that is already in effect calls a reload off.
type ConfigCommit struct {
	Gen uint64 `msgpack:"gen"`
}

func (*WorkerHello) Number() Number  { return 1 }
func (*RunnerHello) Number() Number  { return 2 }
func (*Ping) Number() Number         { return 3 }
func (*Pong) Number() Number         { return 4 }
func (*ConfigBegin) Number() Number  { return 10 }
func (*ConfigServer) Number() Number { return 11 }
func (*ConfigUser) Number() Number   { return 12 }
func (*ConfigHBA) Number() Number    { return 13 }
func (*ConfigLimit) Number() Number  { return 14 }
func (*ConfigEnd) Number() Number    { return 15 }
func (*ConfigDone) Number() Number   { return 16 }
func (*ConfigTLS) Number() Number    { return 17 }
func (*ConfigIdent) Number() Number  { return 18 }
func (*ConfigCommit) Number() Number { return 19 }
