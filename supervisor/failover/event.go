package failover

import "time"

// Event is something that happened outside; Step takes one at a time.
type Event interface{ event() }

// Started starts the machine, which then probes every server. It comes exactly once, before any other event.
type Started struct {
	Wall time.Time // makes run ids unique across restarts
}

// Tick says that the time that Deadline asked for has come. Additional Ticks do no harm.
type Tick struct{}

// Outcome is what one probe saw.
type Outcome uint8

// Outcomes of a probe. Only SawPrimary and SawStandby carry an Observation.
const (
	SawPrimary     Outcome = iota + 1 // logged in, pg_is_in_recovery() is false
	SawStandby                        // logged in, pg_is_in_recovery() is true
	SawRefused                        // ECONNREFUSED, or reset on connect
	SawTimeout                        // no answer to connect within the time-out
	SawSilent                         // accepted, then nothing within the time-out
	SawUnreachable                    // no route to host or network: treated as silence
	SawNoAddress                      // its name never resolved, or (with a Code) the probe itself failed: proves nothing
	SawAlive                          // it answers, but its role is unknown: SQLSTATE says why (53300, 28xxx, TLS failure, no login to use)
	SawStarting                       // 57P03
	SawShutdown                       // 57P01 or 57P02 during the probe
)

var outcomeNames = [...]string{
	"", "primary", "standby", "refused", "timeout", "silent", "unreachable", "noaddress", "alive", "starting", "shutdown",
}

// String is the word in status, history and transcripts.
func (o Outcome) String() string { return name(outcomeNames[:], int(o)) }

// Receiver is what pg_stat_wal_receiver shows on a standby.
type Receiver uint8

// Receiver states.
const (
	ReceiverUnknown   Receiver = iota // not asked, or columns NULL (pg_monitor is missing)
	ReceiverGone                      // no row, or not streaming
	ReceiverStreaming                 // status is streaming
)

// Observation is what a logged-in probe read.
type Observation struct {
	SystemID uint64 // 0 unknown
	Timeline uint32 // 0 unknown; a lower bound on a standby that doesn't let the probe replicate
	// PostmasterStart and Checkpoint tell two names of one server from two servers; 0 is unknown. They are microseconds
	// since 1970 by the server's clock, and the LSN of the latest checkpoint in its control file.
	PostmasterStart int64
	Checkpoint      uint64
	WriteLSN        uint64 // primary
	ReceiveLSN      uint64 // standby
	ReplayLSN       uint64 // standby
	Paused          bool   // replay is paused or delayed
	Receiver        Receiver
	ReceiverWord    string // the receiver's status as the standby shows it, "" if there is no receiver
	SlotName        string // of the receiver
	SenderHost      string // of the receiver, as the standby knows it
	SenderPort      string
	SenderServer    string        // name of the configured server at SenderHost:SenderPort, "" if none or unknown
	LastMsgAge      time.Duration // clock_timestamp() - last_msg_receipt_time, on the standby
	LastMsgKnown    bool
	// ReceiverTimeout is wal_receiver_timeout of a standby, 0 if unknown or off. After half of it without a message the
	// receiver asks the primary for one.
	ReceiverTimeout time.Duration
	SyncStandbys    []string // primary: names of configured servers that are sync or quorum standbys, as far as known
	SyncWaiting     bool     // primary: commits hang on a synchronous standby
}

// ProbeDone answers Probe.
type ProbeDone struct {
	Server  int
	ID      uint64 // of the Probe; an answer with another id is dropped
	Outcome Outcome
	Code    string // SQLSTATE, or "" ; for SawAlive without SQLSTATE a word such as "tls" or "nologin"
	Words   string // what is wrong, with the code "tls" or "nologin"
	Obs     Observation
	Version string        // server_version as the server reports it, "" if there was no login
	Started time.Duration // when the connection attempt began, same clock as now
	Ended   time.Duration
}

// Hinted is an error on a client's backend. It causes a probe, and may show that a restart was announced.
type Hinted struct {
	Server int
	Epoch  uint64 // of the backend; other epochs are ignored
	Kind   string // "refused", "reset", "eof", "timeout", "error", or HintDied
	Code   string // SQLSTATE when the server sent one: 57P01, 57P02, 57P03, 25006
}

// HintDied is the kind of the hint when backends report that their postmaster has died. No command has ended them, so
// no restart was announced.
const HintDied = "died"

// HotStandby is the parameter in_hot_standby of a login.
type HotStandby uint8

// Values of in_hot_standby.
const (
	HotStandbyUnknown HotStandby = iota // server before 14
	HotStandbyOff
	HotStandbyOn
)

// LoginSeen is a worker's login to a server. It shows the server's role when probes can't log in.
type LoginSeen struct {
	Server int
	Epoch  uint64
	Hot    HotStandby
}

// Activity answers AskActivity with the smallest age over all workers.
type Activity struct {
	Server int
	Never  bool          // no worker has a connection that has received a byte from it
	Age    time.Duration // since the last byte received from that host
}

// Fenced says that every worker has acknowledged that Fence, or is dead.
type Fenced struct {
	Epoch uint64
	Seq   uint64 // of the Fence; an answer with another number is ignored
}

// RunStarted says that the script's process exists.
type RunStarted struct{ RunID string }

// RunEnded says that a run has ended, and its whole process group with it; Left has the exceptions.
type RunEnded struct {
	RunID    string
	Hook     string
	Exit     int    // exit code, when Signal is 0
	Signal   int    // signal that ended it, or 0
	TimedOut bool   // ended by the runner at its time-out
	Refused  string // if not empty, why the script never ran
	Left     string // if not empty, ids of processes of the run that couldn't be ended and may go on
}

// RunLost says that the link to the runner broke during that run, so its outcome is unknown.
type RunLost struct{ RunID string }

// RunGroupEmpty says that no process of that run is left. It comes after RunLost, and after a restart for a run that
// was in progress according to the Record (known from the runner, or from the free lock of state_dir if the runner was
// a child).
type RunGroupEmpty struct {
	RunID string
	// GivenUp says that processes may be left because they couldn't be ended in time.
	GivenUp bool
}

// RunnerUp says that the runner is linked and has the same configuration.
type RunnerUp struct{}

// RunnerDown says that no run can be started now, and why.
type RunnerDown struct{ Reason string }

// RunnerSilent says that the linked runner has stopped answering; with an empty Reason, that it answers again. A run
// may still be requested: if the runner doesn't come back, it is given up before it begins.
type RunnerSilent struct{ Reason string }

// NotifyBroken says why the runner could not execute the notify script now; with an empty Reason, that it could. No
// other run has to wait for that.
type NotifyBroken struct{ Reason string }

// RunsAllowed says whether this pgagroal alone uses state_dir. No run starts before the first RunsAllowed{true}.
type RunsAllowed struct {
	Allowed bool
	Holder  string // the processes that hold it instead, for an alarm; "" if unknown, or too early for an alarm
}

// SaveDone answers Save.
type SaveDone struct {
	Seq uint64
	Err error
}

// ClearServer is `pgagroal-cli clear server NAME`, answered by Reply.
type ClearServer struct {
	Tag   uint64
	Name  string
	Force bool
}

// SwitchTo is `pgagroal-cli switch-to NAME`, answered by Reply. It asks for a planned switchover if the primary works
// and the server is its standby. Otherwise it only records a switchover that was made by hand.
type SwitchTo struct {
	Tag     uint64
	Name    string
	Force   bool
	Timeout time.Duration // how long to wait for running transactions, 0 for the default of 10 s
}

// Quiesced answers Quiesce.
type Quiesced struct {
	Epoch uint64
	Busy  int // sessions that are, or may be, in a transaction on a backend of that epoch or an older one
}

// Reset is `pgagroal-cli failover reset`, answered by Reply. It ends the lock of failover_max and starts the count
// again at 0.
type Reset struct{ Tag uint64 }

// Reconfigured says how a reload has ended. Config is the new configuration, which has the same servers in the same
// order; the caller sends none while a script runs or is due. It is nil if the old configuration stays. Problem says why
// files can't be used: those of this reload, or of an earlier one that nobody has repeated.
type Reconfigured struct {
	Config  *Config
	Problem string
}

// Upgraded says how an upgrade has ended. Problem says why the program before goes on, "" if nothing is wrong.
type Upgraded struct{ Problem string }

// Pause is `pgagroal-cli failover pause`, answered by Reply. Until Resume the machine still confirms and shows deaths,
// but fences nothing and runs no script.
type Pause struct{ Tag uint64 }

// Resume is `pgagroal-cli failover resume`, answered by Reply.
type Resume struct{ Tag uint64 }

// ClientsPaused says which clients `pgagroal-cli pause` holds; Text is for the alarm, "" when none are held. While All is
// set, the primary may be restarted: as during a pause of the failover its death is shown, but nothing is fenced and no
// script runs.
type ClientsPaused struct {
	All  bool
	Text string
}

// Trigger is `pgagroal-cli failover trigger`, answered by Reply. The command takes the place of a confirmed death.
type Trigger struct {
	Tag   uint64
	To    string // name of the server to promote, "" for the best one
	Force bool   // even if the primary may be writable
}

// Rehearse is `pgagroal-cli failover rehearse`, answered by Reply with a Rehearsal: it changes nothing.
type Rehearse struct{ Tag uint64 }

// Stopping says that pgagroal is shutting down: no further run starts. Status.Busy says when it may end.
type Stopping struct{}

func (Started) event()       {}
func (Tick) event()          {}
func (ProbeDone) event()     {}
func (Hinted) event()        {}
func (LoginSeen) event()     {}
func (Activity) event()      {}
func (Fenced) event()        {}
func (RunStarted) event()    {}
func (RunEnded) event()      {}
func (RunLost) event()       {}
func (RunGroupEmpty) event() {}
func (RunnerUp) event()      {}
func (RunnerDown) event()    {}
func (RunnerSilent) event()  {}
func (NotifyBroken) event()  {}
func (RunsAllowed) event()   {}
func (SaveDone) event()      {}
func (ClearServer) event()   {}
func (SwitchTo) event()      {}
func (Reset) event()         {}
func (Quiesced) event()      {}
func (Pause) event()         {}
func (ClientsPaused) event() {}
func (Resume) event()        {}
func (Trigger) event()       {}
func (Rehearse) event()      {}
func (Reconfigured) event()  {}
func (Upgraded) event()      {}
func (Stopping) event()      {}
