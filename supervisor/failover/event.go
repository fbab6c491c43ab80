package failover

import "time"

// Event is something that happened outside; Step takes one at a time.
type Event interface{ event() }

// Started begins the machine: it probes every server. Exactly once, before any other event.
type Started struct {
	Wall time.Time // makes run ids unique across restarts
}

// Tick says that the time asked for by Deadline has come; extra ones do no harm.
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
	SawNoAddress                      // name resolution failed and there is no last good address: never a reason
	SawAlive                          // it answered but the role is unknown: SQLSTATE says why (53300, 28xxx, TLS failure, no login to use)
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
	// PostmasterStart and Checkpoint tell two names of one server from two servers, 0 unknown: microseconds since 1970
	// by its own clock, and the LSN of the latest checkpoint in its control file.
	PostmasterStart int64
	Checkpoint      uint64
	WriteLSN        uint64 // primary
	ReceiveLSN      uint64 // standby
	ReplayLSN       uint64 // standby
	Paused          bool   // replay is paused or delayed
	Receiver        Receiver
	ReceiverWord    string        // its status as the standby shows it, "" when there is none
	SlotName        string        // of the receiver
	SenderHost      string        // of the receiver, as the standby knows it
	SenderPort      string        //
	SenderServer    string        // name of the configured server that SenderHost:SenderPort is, "" when none or not known
	LastMsgAge      time.Duration // clock_timestamp() - last_msg_receipt_time, on the standby
	LastMsgKnown    bool
	// ReceiverTimeout is wal_receiver_timeout of a standby, 0 unknown or none. After half of it without a message the
	// receiver asks for one.
	ReceiverTimeout time.Duration
	SyncStandbys    []string // primary: names of configured servers that are sync or quorum standbys, as far as known
	SyncWaiting     bool     // primary: commits hang on a synchronous standby
}

// ProbeDone answers Probe.
type ProbeDone struct {
	Server  int
	ID      uint64 // of the Probe; answers to another id are dropped
	Outcome Outcome
	Code    string // SQLSTATE, or "" ; for SawAlive without SQLSTATE a word such as "tls" or "nologin"
	Obs     Observation
	Version string        // server_version as the server reports it, "" when no login told
	Started time.Duration // when the connection attempt began, same clock as now
	Ended   time.Duration
}

// Hinted is a client-side error on a backend of a server: it wakes the prober, no more.
type Hinted struct {
	Server int
	Epoch  uint64 // of the backend; other epochs are ignored
	Kind   string // "refused", "reset", "eof", "timeout", "error", or HintDied
	Code   string // SQLSTATE when the server sent one: 57P01, 57P02, 57P03, 25006
}

// HintDied is the kind of a hint by which sessions say that their postmaster is gone: no command has ended them, so
// nobody has announced a restart.
const HintDied = "died"

// HotStandby is the parameter in_hot_standby of a login.
type HotStandby uint8

// Values of in_hot_standby.
const (
	HotStandbyUnknown HotStandby = iota // server before 14
	HotStandbyOff
	HotStandbyOn
)

// LoginSeen is a backend login by a worker: it tells the role when probes can't log in.
type LoginSeen struct {
	Server int
	Epoch  uint64
	Hot    HotStandby
}

// Activity answers AskActivity: the smallest age over all workers.
type Activity struct {
	Server int
	Never  bool          // no worker has a connection that ever received a byte from it
	Age    time.Duration // since the last byte received from that host
}

// Fenced says that every worker has acknowledged that Fence or is dead.
type Fenced struct {
	Epoch uint64
	Seq   uint64 // of the Fence; others are ignored
}

// RunStarted says that the script's process exists.
type RunStarted struct{ RunID string }

// RunEnded is the end of a run and of its whole process group.
type RunEnded struct {
	RunID    string
	Hook     string
	Exit     int    // exit code, when Signal is 0
	Signal   int    // signal that ended it, or 0
	TimedOut bool   // ended by us at its time-out
	Refused  string // not empty: it never ran, and why
	Left     string // not empty: ids of processes of the run that couldn't be ended, and may go on
}

// RunLost says that the link to the runner broke during that run: its outcome is unknown.
type RunLost struct{ RunID string }

// RunGroupEmpty says that no process of that run is left: after RunLost, and after a restart for a run that the
// Record shows under way (the runner's answer, or the free lock of state_dir with a runner of our own).
type RunGroupEmpty struct {
	RunID string
	// GivenUp: something may be left, which couldn't be ended in the time for that.
	GivenUp bool
}

// RunnerUp says that the runner is linked and agrees with the configuration.
type RunnerUp struct{}

// RunnerDown says that no run can be started now, and why.
type RunnerDown struct{ Reason string }

// RunnerSilent says that the linked runner has stopped answering, "" that it answers again. A run may still be asked for:
// should the runner not come back it is given up before it begins.
type RunnerSilent struct{ Reason string }

// RunsAllowed says whether state_dir is ours alone. No run starts before the first RunsAllowed{true}.
type RunsAllowed struct {
	Allowed bool
	Holder  string // who holds it instead, for an alarm; "" when that isn't known, or isn't worth one yet
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

// SwitchTo is `pgagroal-cli switch-to NAME`, answered by Reply: a planned switchover when the primary works and the
// server is its standby, else only the change of labels after one made by hand.
type SwitchTo struct {
	Tag     uint64
	Name    string
	Force   bool
	Timeout time.Duration // how long running transactions are waited for, 0 is the default of 10 s
}

// Quiesced answers Quiesce.
type Quiesced struct {
	Epoch uint64
	Busy  int // sessions that are in a transaction on a backend of that epoch or an older one, or may be
}

// Reset is `pgagroal-cli failover reset`, answered by Reply: it ends the lock of failover_max and counts anew.
type Reset struct{ Tag uint64 }

// Pause is `pgagroal-cli failover pause`, answered by Reply: deaths are still confirmed and shown, but nothing is fenced
// and no script runs until Resume.
type Pause struct{ Tag uint64 }

// Resume is `pgagroal-cli failover resume`, answered by Reply.
type Resume struct{ Tag uint64 }

// Trigger is `pgagroal-cli failover trigger`, answered by Reply: a death confirmed by command.
type Trigger struct {
	Tag   uint64
	To    string // name of the server to promote, "" for the best one
	Force bool   // although the primary may be writable
}

// Rehearse is `pgagroal-cli failover rehearse`, answered by Reply with a Rehearsal: it changes nothing.
type Rehearse struct{ Tag uint64 }

// Stopping says that the pooler is on its way out: no run starts any more. Status.Busy tells when it may go.
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
func (RunsAllowed) event()   {}
func (SaveDone) event()      {}
func (ClearServer) event()   {}
func (SwitchTo) event()      {}
func (Reset) event()         {}
func (Quiesced) event()      {}
func (Pause) event()         {}
func (Resume) event()        {}
func (Trigger) event()       {}
func (Rehearse) event()      {}
func (Stopping) event()      {}
