package config

import (
	"cmp"
	"path/filepath"
	"time"
)

// Values of tls. TLSAllow is for clients only; TLSPrefer, TLSVerifyCA and TLSVerifyFull are for servers only.
const (
	TLSOff        = "off"
	TLSAllow      = "allow"
	TLSPrefer     = "prefer"
	TLSRequire    = "require"
	TLSVerifyCA   = "verify-ca"
	TLSVerifyFull = "verify-full"
)

// Values of the keys of kind Enum.
const (
	PipelineAuto        = "auto"
	PipelinePerformance = "performance"
	PipelineSession     = "session"
	PipelineTransaction = "transaction"

	VerifyWait   = "wait"
	VerifyStrict = "strict"
	VerifyOff    = "off"

	SettleAuto   = "auto"
	SettleManual = "manual"

	FailbackStandby = "standby"

	ModeScript = "script"
	ModeFollow = "follow"
	ModeOff    = "off"

	ShutdownImmediate  = "immediate"
	ShutdownGracefully = "gracefully"

	ValidationOff        = "off"
	ValidationForeground = "foreground"
	ValidationBackground = "background"

	StartupOff = "off"
	StartupTry = "try"
	StartupOn  = "on"

	BackendAuto    = "auto"
	BackendIOURing = "io_uring"
	BackendEpoll   = "epoll"
)

// Config is one complete configuration: the main file and the secondary files beside it. It never
// changes once it is in use. Durations are time.Duration, whatever their unit in the file; sizes are
// bytes.
type Config struct {
	Paths Paths // the files that were read

	Host          string
	Port          int
	UnixSocketDir string
	User          string // account to drop to when started as root; empty keeps the current one
	WorkerUser    string // account of the workers; empty means that of pgagroal
	Workers       int    // 0 means one for each CPU, see EffectiveWorkers
	StateDir      string // empty means the first usable of the usual directories, DefaultStateDir first
	IncludeDir    string // directory of further files of keys; empty means none
	PIDFile       string // empty means the default, see EffectivePIDFile

	Metrics             int // port, 0 is off
	MetricsCacheMaxAge  time.Duration
	MetricsCacheMaxSize int64
	MetricsMaxSeries    int
	MetricsDetail       string
	MetricsCertFile     string
	MetricsKeyFile      string
	MetricsCAFile       string
	Management          int // port, 0 is off
	Console             int // port, 0 is off
	ConsoleNames        string

	LogType           string
	LogLevel          string
	LogFormat         string
	LogPath           string
	LogRotationAge    time.Duration
	LogRotationSize   int64
	LogLinePrefix     string
	LogMode           string
	LogConnections    bool
	LogDisconnections bool

	BlockingTimeout       time.Duration // 0: clients don't wait
	ConnectionRetryDelay  time.Duration
	IdleTimeout           time.Duration // 0 is off
	MaxConnectionAge      time.Duration // 0 is off
	FlushTimeout          time.Duration // 0 is unbounded
	ShutdownMode          string
	ShutdownDelay         time.Duration
	PauseTimeout          time.Duration // 0 is unbounded
	UpgradeTimeout        time.Duration // 0 is unbounded
	Validation            string
	BackgroundInterval    time.Duration
	MaxRetries            int
	MaxConnections        int
	MaxPools              int
	MaxClients            int // 0 means no limit, here and in the next two
	MaxClientsPerUser     int
	MaxClientsPerDatabase int
	ReservedConnections   int
	OrphanGrace           time.Duration

	IdentFile                     string // empty means pgagroal_ident.conf beside the other files, if it is there
	MD5                           bool   // whether rules may have the method md5
	AllowUnknownUsers             bool
	AuthenticationTimeout         time.Duration
	AuthFailureDelay              time.Duration // 0 is off
	FollowCredentialFiles         bool
	AuthQuery                     bool
	AuthQueryUser                 string // empty means the superuser
	AuthQueryDatabase             string // ClientsDatabase means that of the client
	AuthQueryStatement            string
	AuthQueryConnections          int
	AuthQueryMaxAge               time.Duration // 0 means for one login
	AuthQueryMaxUsers             int
	RotateFrontendPasswordTimeout time.Duration
	RotateFrontendPasswordLength  int

	Pipeline                          string // as written; see ResolvedPipeline
	TrackPreparedStatements           bool
	ServerResetQuery                  string // empty disables the reset
	ServerResetQueryAlways            bool
	ServerResetQueryBehaviorOnFailure string
	QueryTimeout                      time.Duration // 0 is off
	IdleInTransactionTimeout          time.Duration // 0 is off
	DisconnectClient                  time.Duration // 0 is off
	DisconnectClientForce             bool

	TLS           string // TLSOff, TLSAllow or TLSRequire
	TLSCertFile   string // one or more, with commas between them
	TLSKeyFile    string // as many
	TLSCAFile     string
	TLSCRLFile    string
	TLSMinVersion string
	TLSCurves     string
	TLSCiphers    string

	EvBackend          string
	KeepAlive          bool
	NoDelay            bool
	Backlog            int // 0 or less means the system's limit
	ProxyProtocol      bool
	Hugepage           string
	Tracker            bool
	UpdateProcessTitle string

	ApplicationNameAddHost bool

	HealthCheck        bool
	HealthCheckPeriod  time.Duration
	HealthCheckTimeout time.Duration
	HealthCheckUser    string
	StartupValidation  string

	Failover             bool
	FailoverScript       string
	FailoverNotifyScript string
	FailoverFenceScript  string
	ScriptrunnerSocket   string

	FailoverMode          string
	FailoverStartTimeout  time.Duration
	FailoverProbeCount    int
	FailoverProbeInterval time.Duration
	FailoverProbeTimeout  time.Duration
	FailoverRestartGrace  time.Duration
	FailoverSilenceTime   time.Duration
	FailoverMinStandbys   int // 0 means all standbys that aren't Failed when there are two or more, else one
	FailoverStartupGrace  time.Duration
	FailoverVetoStreaming bool
	FailoverVetoMax       time.Duration
	FenceTimeout          time.Duration
	FailoverClientWait    time.Duration
	FailoverKeepSessions  string
	FailoverKeepFunctions string
	FailoverMaxLag        int64 // bytes, 0 means no bound
	FailoverScriptTimeout time.Duration
	FailoverKillDelay     time.Duration
	FailoverVerify        string
	FailoverVerifyTimeout time.Duration
	FailoverNotifyTimeout time.Duration
	FailoverNotifyRetries int
	FailoverSettle        string
	Failback              string
	FailbackQuarantine    time.Duration
	FailoverMax           int // runs in each FailoverWindow, 0 means no bound
	FailoverWindow        time.Duration

	Servers []Server

	HBA           []HBARule
	Ident         []IdentLine
	Limits        []Limit
	Users         []Credential
	FrontendUsers []Credential
	Admins        []Credential
	Superuser     *Credential // nil when there is none

	slots *slots // nil for the places in Servers

	origins map[string]Origin // of each value that isn't a default, by its full name
	sources Paths             // what Load was given
	keyPath string            // of the master key; empty if none was needed
	key     *MasterKey        // that of keyPath, so that a file that is read again needs no derivation
	// credentialsRead is what CredentialsRead returns.
	credentialsRead string
}

// Server is one server section: one PostgreSQL instance.
type Server struct {
	Name    string // name of the section
	Host    string // name or address, or a directory with a Unix socket
	Port    int
	Primary bool // a hint, used only at the start

	TLS            string // off, or one of libpq's modes from prefer on
	TLSCertFile    string
	TLSKeyFile     string
	TLSCAFile      string // a file, or system
	TLSCRLFile     string
	TLSMinVersion  string
	TLSCurves      string
	TLSCiphers     string
	TLSNegotiation string
	ChannelBinding string
	RequireAuth    string // see AuthMethods

	FailoverCandidate bool
	FailoverPriority  int

	File string // with the section's header
	Line int
}

// HBARule is one line of pgagroal_hba.conf.
type HBARule struct {
	Type     string // local, host, hostssl or hostnossl
	Database Names
	User     Names
	Address  string // CIDR, all, samehost, samenet, a host name, or the end of one after a dot; empty for local
	Method   string // trust, reject, password, md5, scram-sha-256, cert or all

	ClientCert string // verify-ca, verify-full, or empty
	ClientName string // CN, DN, or empty
	Map        string // of pgagroal_ident.conf, or empty

	File string
	Line int
}

// Limit is one line of pgagroal_databases.conf.
type Limit struct {
	Database    Names
	Aliases     []string // of the rule's only database
	User        Names
	MaxSize     int  // backends; "all" in the file is already resolved
	Rest        bool // MAX_SIZE is all: what the lines before leave of max_connections
	InitialSize int
	MinSize     int
	// QueryTimeout is used instead of Config.QueryTimeout unless it is Unset.
	QueryTimeout time.Duration
	Line         int
}

// Unset is the QueryTimeout of a limit that has none.
const Unset time.Duration = -1

// Credential is a name and its password.
type Credential struct {
	Name     string
	Password Secret
}

// Paths names the files of a configuration; an empty optional path means that there is none.
type Paths struct {
	Config    string
	HBA       string
	Ident     string
	Limits    string
	Users     string
	Frontend  string
	Admins    string
	Superuser string

	// Included are the files of include_dir, in the order in which they were read.
	Included []string
	// Auto is what conf set --persist has written; see AutoName.
	Auto string
	// FindStateDir returns state_dir if Auto is to be looked for there; empty means that there is none.
	FindStateDir func(*Config) string

	// MasterKey is the file of the master key; empty means that of the account that pgagroal runs as, see FindKeyFile.
	MasterKey string

	// Explicit says which files the operator has named on the command line; these must exist. Its
	// keys are FileConfig and the other File constants.
	Explicit map[string]bool
	// Tried has, with the same keys, the paths that were tried for each file. The last one is in use.
	Tried map[string][]string
}

// UsersFile returns the path of the users file. If there is none, it returns the path at which it would be read.
func (p Paths) UsersFile() string {
	if tried := p.Tried[FileUsers]; p.Users == "" && len(tried) > 0 {
		return tried[0]
	}
	return cmp.Or(p.Users, filepath.Join(DefaultDirectory, FileUsers))
}
