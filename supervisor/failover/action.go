package failover

import "time"

// Action is an order of the machine to the supervisor, which executes actions strictly in the order returned.
// Everything after a Save, actions of later Steps included, waits until the record is fsynced and renamed or until that
// has failed.
type Action interface{ action() }

// Probe asks for one probe over a fresh connection. ProbeDone answers it. At most one per server is in progress.
type Probe struct {
	Server  int
	ID      uint64
	Timeout time.Duration
}

// AskActivity asks every worker when it last received a byte from that server's host. Activity answers it.
type AskActivity struct{ Server int }

// Save makes the record durable. SaveDone answers it.
type Save struct {
	Seq    uint64
	Record Record
}

// Publish sends the workers a newer snapshot.
type Publish struct{ Snapshot Snapshot }

// Fence makes every worker abort all backends of Epoch and older ones. Fenced with the same Seq answers it. The machine
// repeats a Fence with the same Seq if the answer is late; one answer is enough.
type Fence struct {
	Epoch uint64
	Seq   uint64
}

// Quiesce asks every worker how many sessions are in a transaction on backends of Epoch. Quiesced answers it. From then
// on until a snapshot is open, workers end each session that owns its backend and has no transaction.
type Quiesce struct{ Epoch uint64 }

// Names of hooks.
const (
	HookFailover = "failover"
	HookNotify   = "notify"
	HookFence    = "fence"
)

// StartRun has the runner execute a hook once. RunStarted and RunEnded, or RunLost, answer it.
type StartRun struct {
	RunID   string
	Hook    string
	Args    []string          // exactly the script's arguments, without argv[0]
	Env     map[string]string // PGAGROAL_* variables
	Timeout time.Duration
}

// StopRun ends a notify run early, because its new primary is dead as well: the runner sends SIGTERM to the process
// group, and SIGKILL later. RunEnded follows as usual, or RunLost.
type StopRun struct {
	RunID string
	Why   string
}

// Reply answers a command; a nil Err is success.
type Reply struct {
	Tag uint64
	Err error
	// Rehearsal answers Rehearse.
	Rehearsal *Rehearsal
	Next      string // what happens next, in words; "" when there is nothing to say
}

// Level of a log line.
type Level uint8

// Levels, from unimportant to important.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

var levelNames = [...]string{"debug", "info", "warn", "error"}

// String is the level's word.
func (l Level) String() string { return name(levelNames[:], int(l)) }

// Attr is one field of a log line.
type Attr struct{ Key, Value string }

// Log is one log line with its fields.
type Log struct {
	Level Level
	Msg   string
	Attrs []Attr
}

// History appends one JSON line to the history file; the supervisor fills in Wall and Output.
type History struct{ Entry HistoryEntry }

func (Probe) action()       {}
func (AskActivity) action() {}
func (Save) action()        {}
func (Publish) action()     {}
func (Fence) action()       {}
func (Quiesce) action()     {}
func (StartRun) action()    {}
func (StopRun) action()     {}
func (Reply) action()       {}
func (Log) action()         {}
func (History) action()     {}
