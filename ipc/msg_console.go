package ipc

import "fmt"

// ConsoleHello is the first message of pgagroal-console, which is a program of its own. Build is its
// release, which must be the supervisor's.
type ConsoleHello struct {
	Version int    `msgpack:"version"`
	PID     int    `msgpack:"pid"`
	Build   string `msgpack:"build"`
}

// ConsoleListen carries a listening socket, which the supervisor has made and keeps, too.
type ConsoleListen struct {
	// Key is the key of pgagroal.conf with the socket's port: metrics, console or management.
	Key string `msgpack:"key"`
}

// ConsoleTLS is a part of what TLS on the ports needs: certificate and key, and the authorities for
// certificates of clients. Those for the management port are ForClients. All parts come before
// ConsoleConfigure.
type ConsoleTLS struct {
	Part ServerTLS `msgpack:"part"`
}

// ConsoleCertificate is the first certificate of a file of the configuration, to be shown. All come
// before ConsoleConfigure.
type ConsoleCertificate struct {
	Scope      string `msgpack:"scope"` // pgagroal, metrics, or a server's name
	Path       string `msgpack:"path"`
	Accessible bool   `msgpack:"accessible"`
	DER        string `msgpack:"der"` // empty if there is none
}

// ConsoleConfigure ends the configuration of the console.
type ConsoleConfigure struct {
	CacheMaxAgeMS int64  `msgpack:"cache_max_age_ms"`
	CacheMaxSize  int64  `msgpack:"cache_max_size"`
	MaxSeries     int    `msgpack:"max_series"`
	Detail        string `msgpack:"detail"` // server, pool or connection
	// RequestMS is how long a client may take to send a request.
	RequestMS int64 `msgpack:"request_ms"`
	// Names are the names by which browsers may call the web page, beside addresses and localhost.
	Names []string `msgpack:"names"`
	// Management is TLS on the management port, the same as for clients.
	Management ClientTLS `msgpack:"management"`
	// Listeners is how many ConsoleListen came before.
	Listeners int `msgpack:"listeners"`
}

// ConsoleReady says that the console is confined: see ProberReady.
type ConsoleReady struct {
	Confined   []string `msgpack:"confined"`
	Unconfined []string `msgpack:"unconfined"`
}

// SnapshotRequest asks for a snapshot of everything that there is to show. The console has one
// request open at most.
type SnapshotRequest struct {
	ID uint64 `msgpack:"id"`
	// Sessions asks for a list of all backends as well.
	Sessions bool `msgpack:"sessions"`
	// Page asks for what only the web page shows: the documents and the history.
	Page bool `msgpack:"page"`
	// History is the number of the last entry of the history that the console has, 0 for none.
	History uint64 `msgpack:"history"`
	// Logged are the lines of level info, warn, error and fatal that the console has logged.
	Logged []uint64 `msgpack:"logged"`
}

// SnapshotBegin begins the answer with what the supervisor itself knows. It comes at once; the items
// and SnapshotEnd follow when the workers have answered, or have had their time.
type SnapshotBegin struct {
	ID uint64 `msgpack:"id"`

	Ending         bool `msgpack:"ending"` // a graceful shutdown is under way
	Pipeline       int  `msgpack:"pipeline"`
	ResetOnFailure int  `msgpack:"reset_on_failure"`
	MaxConnections int  `msgpack:"max_connections"`

	// Writable says that a client which connects now can write, Reason why not.
	Writable bool   `msgpack:"writable"`
	Reason   string `msgpack:"reason"`

	Failover FailoverFacts `msgpack:"failover"`
	Leases   LeaseFacts    `msgpack:"leases"`
	Confined []string      `msgpack:"confined"`
	Lacking  []string      `msgpack:"lacking"`
	Logged   []uint64      `msgpack:"logged"` // lines of level info, warn, error and fatal
	Clients  int           `msgpack:"clients"`
	Unplaced int           `msgpack:"unplaced"`  // clients that no worker has taken yet
	StateDir bool          `msgpack:"state_dir"` // state_dir can be written
}

// FailoverFacts is what the machine of the failover says. Times of the wall clock are Unix seconds.
type FailoverFacts struct {
	Enabled  bool     `msgpack:"enabled"`
	Paused   bool     `msgpack:"paused"`
	Phase    string   `msgpack:"phase"`
	Phases   []string `msgpack:"phases"` // all that there are
	Epoch    uint64   `msgpack:"epoch"`
	Timeline uint32   `msgpack:"timeline"`
	Held     bool     `msgpack:"held"`
	HeldMS   int64    `msgpack:"held_ms"`
	// PhaseMS is how long the machine has been in each phase since the start.
	PhaseMS map[string]int64 `msgpack:"phase_ms"`
	// LastMS is how long each phase of the last failover took, nil before the first.
	LastMS map[string]int64 `msgpack:"last_ms"`
	Alarms []string         `msgpack:"alarms"`
	Runs   []RunCount       `msgpack:"runs"`
	// Last is when failover_script ended last with success, 0 for never.
	Last          int64  `msgpack:"last"`
	Fenced        uint64 `msgpack:"fenced"`        // sessions that fences have ended or parted from their backend
	Problems      int    `msgpack:"problems"`      // that a rehearsal would find
	RunnerWanted  bool   `msgpack:"runner_wanted"` // scripts are to run
	RunnerThere   bool   `msgpack:"runner_there"`
	RunnerAgrees  bool   `msgpack:"runner_agrees"` // it has read the same configuration
	RunnerService bool   `msgpack:"runner_service"`
	// Changes are the last changes of the phase, the oldest first.
	Changes []PhaseChange `msgpack:"changes"`
}

// PhaseChange says when the machine came into a phase, and why.
type PhaseChange struct {
	WallMS int64  `msgpack:"wall_ms"` // Unix time
	Phase  string `msgpack:"phase"`
	Reason string `msgpack:"reason"`
}

// RunCount is how many runs of a hook had an outcome since the start.
type RunCount struct {
	Hook    string `msgpack:"hook"`
	Outcome string `msgpack:"outcome"`
	N       uint64 `msgpack:"n"`
}

// LeaseFacts counts leases and the requests that wait for one.
type LeaseFacts struct {
	Used     int `msgpack:"used"`
	Orphans  int `msgpack:"orphans"`
	Waiting  int `msgpack:"waiting"`
	Unproven int `msgpack:"unproven"`
}

// SnapshotServer is one server.
type SnapshotServer struct {
	ID        uint64 `msgpack:"id"`
	Index     int    `msgpack:"index"`
	Name      string `msgpack:"name"`
	State     string `msgpack:"state"`
	Qualifier string `msgpack:"qualifier"`
	Health    string `msgpack:"health"`
	Auth      string `msgpack:"auth"`
	Major     int    `msgpack:"major"`
	Seen      string `msgpack:"seen"`
	SeenMS    int64  `msgpack:"seen_ms"` // age of Seen, -1 for never
	Timeline  uint32 `msgpack:"timeline"`
	LSN       uint64 `msgpack:"lsn"`
	// Lag is how many bytes a standby is behind the primary, -1 if that is unknown; LagMS is for how
	// long it has been behind, -1 if that is unknown.
	Lag   int64 `msgpack:"lag"`
	LagMS int64 `msgpack:"lag_ms"`
	// Receiver is 1 if its WAL receiver streams, 0 if not, -1 if that is unknown.
	Receiver int `msgpack:"receiver"`
	Failures int `msgpack:"failures"`
	// Probes counts probes by outcome, with the sum of their times.
	Probes  map[string]uint64 `msgpack:"probes"`
	ProbeUS uint64            `msgpack:"probe_us"`
}

// SnapshotLimit is one line of pgagroal_databases.conf with a limit.
type SnapshotLimit struct {
	ID       uint64 `msgpack:"id"`
	User     string `msgpack:"user"`
	Database string `msgpack:"database"`
	Min      int    `msgpack:"min"`
	Initial  int    `msgpack:"initial"`
	Max      int    `msgpack:"max"`
	Used     int    `msgpack:"used"`
	Waiting  int    `msgpack:"waiting"`
}

// SnapshotProcess is one process of pgagroal.
type SnapshotProcess struct {
	ID       uint64  `msgpack:"id"`
	Name     string  `msgpack:"name"` // supervisor, worker 2, prober
	CPU      float64 `msgpack:"cpu"`  // seconds, those of earlier processes of this name included
	Resident int64   `msgpack:"resident"`
	// AnswerUS is how long a worker took to answer the last request for its figures, -1 for others.
	AnswerUS int64 `msgpack:"answer_us"`
}

// SnapshotStats is a part of a worker's figures, as that worker has sent it. Worker -1 stands for all
// workers that have died. The supervisor doesn't read the parts that it passes on.
type SnapshotStats struct {
	ID     uint64 `msgpack:"id"`
	Worker int    `msgpack:"worker"`
	Part   Packed `msgpack:"part"`
}

// SnapshotDocument is a part of the JSON object that pgagroal-cli shows of status and failover
// status. The parts of a snapshot are one document.
type SnapshotDocument struct {
	ID   uint64 `msgpack:"id"`
	Part []byte `msgpack:"part"`
}

// SnapshotHistory is one entry of the history, a JSON object. The entries of one supervisor are
// numbered from 1, and come in order.
type SnapshotHistory struct {
	ID    uint64 `msgpack:"id"`
	Index uint64 `msgpack:"index"`
	Entry []byte `msgpack:"entry"`
}

// SnapshotEnd ends a snapshot, of so many items.
type SnapshotEnd struct {
	ID    uint64 `msgpack:"id"`
	Items int    `msgpack:"items"`
}

// Format keeps the private key from being printed.
func (ConsoleTLS) Format(s fmt.State, _ rune) { hide(s, "ConsoleTLS") }

// Format keeps the secrets of Management from being printed.
func (ConsoleConfigure) Format(s fmt.State, _ rune) { hide(s, "ConsoleConfigure") }

func (*ConsoleHello) Number() Number       { return 120 }
func (*ConsoleListen) Number() Number      { return 121 }
func (*ConsoleTLS) Number() Number         { return 122 }
func (*ConsoleConfigure) Number() Number   { return 123 }
func (*ConsoleCertificate) Number() Number { return 135 }
func (*ConsoleReady) Number() Number       { return 124 }
func (*SnapshotRequest) Number() Number    { return 125 }
func (*SnapshotBegin) Number() Number      { return 126 }
func (*SnapshotServer) Number() Number     { return 127 }
func (*SnapshotLimit) Number() Number      { return 128 }
func (*SnapshotProcess) Number() Number    { return 129 }
func (*SnapshotStats) Number() Number      { return 130 }
func (*SnapshotEnd) Number() Number        { return 131 }
func (*SnapshotDocument) Number() Number   { return 136 }
func (*SnapshotHistory) Number() Number    { return 137 }
