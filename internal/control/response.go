package control

import (
	"encoding/json"
	"strings"
)

// Words of the fields Health, Status and Primary.
const (
	HealthUp      = "UP"
	HealthDown    = "DOWN"
	HealthUnknown = "UNKNOWN"

	ServerRunning = "Running"
	ServerDown    = "Down"

	PrimaryYes     = "Yes"
	PrimaryNo      = "No"
	PrimaryUnknown = "Unknown"

	StatusRunning  = "Running"
	StatusGraceful = "Graceful shutdown"

	SplitBrainYes = "Yes"
)

// PingResponse answers ping. Servers is keyed by the name of the server. This and
// every other response begins with ServerVersion, which Document.Succeed adds.
type PingResponse struct {
	// Writable says whether clients can connect and write now; if not, Reason says why.
	Writable bool
	Reason   string `json:",omitempty"`
	Servers  map[string]PingServer
}

// PingServer is one server of PingResponse.
type PingServer struct {
	Host    string
	Port    int
	Status  string // ServerRunning or ServerDown
	Primary string // PrimaryYes, PrimaryNo or PrimaryUnknown
	// Behind is how many bytes a standby has yet to replay; nil when unknown
	// and on the primary.
	Behind *int64 `json:",omitempty"`
}

// StatusResponse answers status.
type StatusResponse struct {
	Status            string            // StatusRunning or StatusGraceful
	Shutdown          *ShutdownResponse `json:",omitempty"` // of the shutdown under way
	ActiveConnections int
	TotalConnections  int
	MaxConnections    int
	NumberOfServers   int
	Started           string `json:",omitempty"` // when the process started; an upgrade leaves it as it is
	SplitBrain        string `json:",omitempty"` // SplitBrainYes or absent
	Servers           map[string]Server
	Standbys          map[string]Standby
	Failover          FailoverSummary
	Confinement       Confinement
	Upgrade           *Upgraded `json:",omitempty"` // absent before the first attempt
}

// Upgraded says what upgrades without a cut have left.
type Upgraded struct {
	// Count is how many there were since Since, when the process started.
	Count int
	Since string
	// Problem is why the last attempt has failed.
	Problem string `json:",omitempty"`
	// OldWorkers are of earlier versions, and OldClients their clients.
	OldWorkers int
	OldClients int
	// Note says what an upgrade doesn't apply.
	Note string
}

// ShutdownResponse answers a graceful shutdown.
type ShutdownResponse struct {
	// Next says who is still let in, and when pgagroal ends, in words.
	Next string
	// Final says that the shutdown can't be cancelled.
	Final bool
}

// Confinement says what the kernel forbids a worker or the prober, in case an attacker takes it over.
type Confinement struct {
	// InForce are the parts that the kernel enforces. Lacking are the parts that it can't
	// enforce, each with the reason.
	InForce []string
	Lacking []string
}

// PrimaryReachable reports whether the servers include a primary that is running.
func (r PingResponse) PrimaryReachable() bool {
	for _, s := range r.Servers {
		if s.Primary == PrimaryYes && s.Status == ServerRunning {
			return true
		}
	}
	return false
}

// ReloadResponse answers conf reload.
type ReloadResponse struct {
	// Restart says that something in the files needs a restart, and NeedsRestart says what.
	// Everything else is in effect.
	Restart      bool
	Changed      []ConfChange
	NeedsRestart []ConfChange
	// Credentials are the files in use that the service manager passed at the start. A reload can't see that what they
	// were made of has changed; a restart takes it over.
	Credentials []string `json:",omitempty"`
}

// Values of SetResponse.Status.
const (
	SetSuccess = "success"
	SetRestart = "restart_required"
)

// SetResponse answers conf set. With SetSuccess the value is in effect. With SetRestart the current one stays in effect
// until a restart.
type SetResponse struct {
	Status          string  `json:"status"`
	Message         string  `json:"message"`
	ConfigKey       string  `json:"config_key"`
	OldValue        *string `json:"old_value,omitempty"`
	NewValue        *string `json:"new_value,omitempty"`
	CurrentValue    *string `json:"current_value,omitempty"`
	RequestedValue  *string `json:"requested_value,omitempty"`
	RestartRequired bool    `json:"restart_required"`
	// Persisted is the file that keeps the value for the next start, absent without --persist.
	Persisted string `json:"persisted,omitempty"`
}

// AliasResponse answers conf alias: the lines of the databases file, by database. A further line of a database has the name
// of its user behind that of the database.
type AliasResponse struct {
	Databases map[string]AliasedDatabase
}

// AliasedDatabase is one line of the databases file.
type AliasedDatabase struct {
	Username    string   `json:"username"`
	MaxSize     int      `json:"max_size"`
	InitialSize int      `json:"initial_size"`
	MinSize     int      `json:"min_size"`
	Aliases     []string `json:"aliases"`
}

// ConfChange is one key whose value has changed. For files that may hold secrets, Old and
// New are empty.
type ConfChange struct {
	Key string
	Old string
	New string
}

// Server is one server of StatusResponse.
type Server struct {
	Server           string // its name
	Host             string
	Port             int
	State            string // Not init, Not init (primary), Primary, Replica, Failover, Failed
	Health           string // HealthUp, HealthDown or HealthUnknown
	MajorVersion     int    `json:",omitempty"` // absent when unknown
	SystemIdentifier string `json:",omitempty"` // absent when unknown
	Status           string // ServerRunning or ServerDown
	Primary          string // PrimaryYes, PrimaryNo or PrimaryUnknown
	Behind           *int64 `json:",omitempty"` // bytes, as in PingServer
	// LagSeconds is for how long, at its last probe, a standby had lacked something that the primary
	// had written; absent when unknown.
	LagSeconds *float64 `json:",omitempty"`
	// Qualifier narrows State: not writable, vetoed, detached, split brain, or empty.
	Qualifier string `json:",omitempty"`
	// Reason says why the server is in this state.
	Reason string `json:",omitempty"`
}

// Standby is the state of replication on a standby. The zero value means that the state
// couldn't be read; the document shows it as an empty object.
type Standby struct {
	// Readable says that the other fields are known.
	Readable          bool `json:"-"`
	Streaming         bool
	WALReceiverStatus string
	SlotName          string
	PrimaryHost       string
	PrimaryPort       string
}

// MarshalJSON returns an empty object for a standby that couldn't be read, so that it
// differs from a standby that doesn't stream.
func (s Standby) MarshalJSON() ([]byte, error) {
	if !s.Readable {
		return []byte("{}"), nil
	}
	type plain Standby
	return json.Marshal(plain(s))
}

// FailoverSummary is the part of StatusResponse about the failover.
type FailoverSummary struct {
	Enabled bool
	// Paused says whether failover is off until `failover resume`.
	Paused bool
	Phase  string // of the state machine
	Reason string `json:",omitempty"` // why the machine is in that phase
	Epoch  uint64
	// Timeline is the timeline of the recorded primary, absent when unknown.
	Timeline uint32 `json:",omitempty"`
	// Held says whether clients wait; HeldReason says why.
	Held       bool
	HeldReason string `json:",omitempty"`
	// Alarms need an operator. Each names the command or setting that ends it.
	Alarms []string
}

// StatusDetailsResponse answers status details.
type StatusDetailsResponse struct {
	StatusResponse
	Traffic     Traffic
	Limits      []Limit
	Databases   []Database
	Connections []Connection
}

// Traffic is what the workers have served since their start. It is less than before after
// the death of a worker.
type Traffic struct {
	Queries            uint64
	QuerySeconds       float64 // all of them together
	Transactions       uint64
	TransactionSeconds float64
	Waits              uint64 // of clients that were given a connection to a server
	WaitSeconds        float64
	Clients            int // that have logged in
	Waiting            int // clients that wait for a connection now
}

// Limit is a line of pgagroal_databases.conf and its current use.
type Limit struct {
	Database           string
	Username           string
	ActiveConnections  int
	MaxConnections     int
	InitialConnections int
	MinConnections     int
}

// DatabasesResponse answers enable and disable.
type DatabasesResponse struct {
	Databases []Database
}

// FlushResponse answers flush. C pgagroal answers without a Response.
type FlushResponse struct {
	// Closed connections to servers are closed now. Graceful ones are closed as soon as their
	// clients don't need them any more.
	Closed   int
	Graceful int
}

// RecycleResponse answers worker recycle.
type RecycleResponse struct {
	Workers int // that were replaced
	Moved   int // clients that the new workers serve now
	// Left clients couldn't be moved yet. The old workers serve them until they can, or until
	// upgrade_timeout.
	Left int
}

// UpgradeResponse answers upgrade.
type UpgradeResponse struct {
	// From and To are the versions of the running program and of the one that takes its place.
	From, To string
	// Next says what becomes of the clients, in words.
	Next string
	// Count and Since are what status has in Upgrade when the new version answers; Since is in Started, too.
	Count int
	Since string
}

// PauseResponse answers pause and resume.
type PauseResponse struct {
	// Paused is the database whose clients are or were paused, or all.
	Paused string
	// Next says what is the case now, in words.
	Next string
}

// ClientsResponse answers clients, in the order in which the clients have come.
type ClientsResponse struct {
	Clients []Client
}

// Client is a client of pgagroal.
type Client struct {
	ID    uint64 // for Kick, and in the log
	State string // login, waiting, active, in transaction, idle or leaving
	// Database is the name that the client has given. Before its login nothing of a client is known
	// but its address.
	Database  string
	Username  string
	AppName   string
	Client    string // address, empty for a Unix socket
	StartTime int64  // Unix seconds
	// PID is the process that serves the client now, on Server; absent when it has none.
	PID    uint32 `json:",omitempty"`
	Server string `json:",omitempty"`
	Worker int    // process id of its worker
}

// PoolsResponse answers pools, sorted by database and user.
type PoolsResponse struct {
	// AllPaused says that all databases are paused together, so that none can be resumed alone.
	AllPaused bool `json:",omitempty"`
	Pools     []Pool
}

// Pool is the connections of one database and user, and the clients that wait for one.
type Pool struct {
	Database string
	Username string
	Active   int
	Idle     int
	Waiting  int
	Waited   int64 // seconds, of the client that has waited longest
	Paused   bool
}

// ServersResponse answers servers, in the order of the configuration.
type ServersResponse struct {
	Servers []ServerLine
}

// ServerLine is a server with what was seen of it last, and the connections to it.
type ServerLine struct {
	Server
	Probe    string  // last result of a probe
	ProbeAge float64 // seconds since then, -1 for never
	Timeline uint32  `json:",omitempty"`
	LSN      string  `json:",omitempty"`
	Active   int
	Idle     int
}

// Database is a database that was disabled or enabled by name, or * for all databases.
type Database struct {
	Database string
	Enabled  bool
}

// Connection is one backend. Times are Unix seconds, -1 when unknown.
type Connection struct {
	State     string // Free, Active, ...: C pgagroal's words
	StartTime int64
	Timestamp int64 // of the last use
	PID       int   // of the worker that holds it
	FD        int
	Database  string
	Username  string
	AppName   string
	Server    string `json:",omitempty"` // name of the server
	Client    string `json:",omitempty"` // address of the client
	ID        uint64 `json:",omitempty"` // of the client, for Kick
}

// ConfListResponse answers conf ls. The path of a file that isn't used is empty.
type ConfListResponse struct {
	Main          string `json:"main_configuration_path"`
	HBA           string `json:"hba_configuration_path"`
	Limit         string `json:"limit_configuration_path"`
	Users         string `json:"users_configuration_path"`
	FrontendUsers string `json:"frontend_users_configuration_path"`
	Admin         string `json:"admin_configuration_path"`
	Superuser     string `json:"superuser_configuration_path"`
	// Included are the files of include_dir in their order; Auto is the file of conf set --persist.
	Included []string `json:"included_configuration_paths,omitempty"`
	Auto     string   `json:"auto_configuration_path,omitempty"`
}

// EventsResponse answers events. Each event is an object as log_format = json has them, the oldest first.
type EventsResponse struct {
	Events []json.RawMessage
	Last   uint64 // number of the last event; they count from 1
	Missed uint64 // how many events that were asked for are no longer kept
	// Run is different for each start of pgagroal, which counts its events anew.
	Run string
}

// HistoryResponse answers failover history. Each entry is a JSON object, the oldest first.
type HistoryResponse struct {
	History []json.RawMessage
}

// FailoverAnswer answers commands that change the failover.
type FailoverAnswer struct {
	// Next says what happens next, in words.
	Next string
}

// RehearsalResponse answers failover rehearse.
type RehearsalResponse struct {
	// Well says whether a failover would succeed, that is, whether Problems is empty.
	Well bool
	// Primary is the server whose death is rehearsed, Next the server that would be
	// promoted. Each is empty if there is none.
	Primary    string
	Next       string
	Runs       []RehearsedRun // in the order of their execution
	Candidates []RehearsedServer
	Problems   []Finding
	Warnings   []Finding
}

// RehearsedRun is a script that would run.
type RehearsedRun struct {
	Hook   string
	Script string
	Args   []string
	// Check is what the script has found when it was run with PGAGROAL_CHECK=1.
	Check *HookCheck `json:",omitempty"`
}

// HookCheck is the check of a script by itself.
type HookCheck struct {
	Result string   // passed; failed, not run or unknown, with the reason
	Words  []string `json:",omitempty"` // what the script has said
}

// Failed reports whether the script says that it couldn't do its work.
func (c *HookCheck) Failed() bool { return strings.HasPrefix(c.Result, "failed") }

// RehearsedServer is a server as the choice of the candidate sees it.
type RehearsedServer struct {
	Server   string
	Timeline uint32 `json:",omitempty"`
	LSN      string
	Verdict  string // chosen, eligible, or why the server isn't eligible
}

// Finding is something that an operator should know before a failover.
type Finding struct {
	Server string `json:",omitempty"`
	Text   string
	Hint   string `json:",omitempty"`
}

// FailoverStatusResponse answers failover status.
type FailoverStatusResponse struct {
	FailoverSummary
	// Mode is failover_mode.
	Mode string `json:",omitempty"`
	// Primary is the name of the recorded primary, empty when there is none.
	Primary string
	// LastLSN is the position that was last seen on the primary, LastLSNAge the seconds
	// since then. Before any was seen, LastLSN is absent and LastLSNAge is -1.
	LastLSN    string `json:",omitempty"`
	LastLSNAge float64
	// Servers is in the order of the configuration.
	Servers []FailoverServer
	// Run is the execution of a hook in progress, or nil.
	Run    *FailoverRun `json:",omitempty"`
	Runner Runner
	// Runs is the number of runs of failover_script, those in the history file included.
	Runs     int
	StateDir string
	// StateDirWritable says whether there is a state_dir and the last record was written.
	StateDirWritable bool
	// StateDirError says why the state can't be written.
	StateDirError string `json:",omitempty"`
}

// FailoverServer is one server of FailoverStatusResponse.
type FailoverServer struct {
	Server    string
	Host      string
	Port      int
	State     string
	Qualifier string `json:",omitempty"`
	Reason    string `json:",omitempty"`
	// EndedBy is the command that ends this state, empty when none is needed.
	EndedBy          string `json:",omitempty"`
	Candidate        bool   // failover_candidate: may become the primary
	Priority         int
	Probe            string  // last result: primary, standby, dead, alive
	ProbeAge         float64 // seconds since that result, -1 if there is none
	Failures         int     // failed probes in a row
	Timeline         uint32  `json:",omitempty"`
	LSN              string  `json:",omitempty"`
	SystemIdentifier string  `json:",omitempty"`
}

// FailoverRun is one execution of a hook.
type FailoverRun struct {
	RunID   string
	Hook    string
	Args    []string
	Started string // RFC 3339
	// Elapsed and Timeout are seconds.
	Elapsed float64
	Timeout float64
	PGID    int `json:",omitempty"`
}

// Runner is the link to the script runner.
type Runner struct {
	// Connected says that the link is up.
	Connected bool
	PID       int `json:",omitempty"`
	// Socket is scriptrunner_socket, empty when the supervisor spawned the runner.
	Socket string `json:",omitempty"`
	// DigestMatch says whether the runner and the supervisor have read the same hooks.
	DigestMatch bool
	// Problems has the reason for each hook that can't run now, by the hook's name.
	Problems map[string]string `json:",omitempty"`
	Error    string            `json:",omitempty"`
}
