package ipc

import (
	"fmt"
	"time"
)

// MaxLooks is how many looks at servers the prober makes at a time, requests to cancel included.
// The supervisor keeps more requests than that back.
const MaxLooks = 256

// MaxBackends is how many process ids one BackendsRequest names.
const MaxBackends = 4096

// MaxServerText bounds each text of a server that the prober passes on, in bytes.
const MaxServerText = 256

// MaxSetting bounds the value of a parameter, in bytes.
const MaxSetting = 4096

// ProberHello is the prober's first message.
type ProberHello struct {
	Version int `msgpack:"version"`
	PID     int `msgpack:"pid"`
}

// ProberTLS is a part of what TLS to a server needs. All parts of all servers come before
// ProberConfigure.
type ProberTLS struct {
	Part ServerTLS `msgpack:"part"`
}

// ProberConfigure tells the prober which servers it may reach at all, for the
// kernel to enforce.
type ProberConfigure struct {
	Ports      []uint16 `msgpack:"ports"`
	SocketDirs []string `msgpack:"socket_dirs"`
}

// ProberReady says that the prober is confined: Confined names what the kernel
// keeps it from, Unconfined what it can't and why, for the operator.
type ProberReady struct {
	Confined   []string `msgpack:"confined"`
	Unconfined []string `msgpack:"unconfined"`
}

// Target is the server of a request: where it is, as whom to log in, and how long
// the look may take.
type Target struct {
	Server int `msgpack:"server"` // its index, which ProberTLS has as well
	// Network is "tcp" or "unix", Address host:port with a numeric host, or the
	// path of a socket. The prober never resolves a name.
	Network   string  `msgpack:"network"`
	Address   string  `msgpack:"address"`
	TimeoutMS int64   `msgpack:"timeout_ms"`
	Logins    []Login `msgpack:"logins"`
	// Methods are the words of require_auth that the server may ask for; empty for all.
	Methods []string `msgpack:"methods"`
}

// Login is a user as whom the prober may log in. Logins are tried in their order.
type Login struct {
	User     string `msgpack:"user"`
	Database string `msgpack:"database"`
	// Password is empty when none is known.
	Password Secret `msgpack:"password"`
}

// ProbeRequest asks for one probe.
type ProbeRequest struct {
	ID     uint64 `msgpack:"id"`
	Target Target `msgpack:"target"`
}

// Outcome is what one probe saw.
type Outcome uint8

// Outcomes of a probe. Only SawPrimary and SawStandby come with an Observation.
const (
	SawPrimary     Outcome = iota + 1 // logged in, pg_is_in_recovery() is false
	SawStandby                        // logged in, pg_is_in_recovery() is true
	SawRefused                        // ECONNREFUSED, or reset on connect
	SawTimeout                        // no answer to connect within the time-out
	SawSilent                         // accepted, then nothing within the time-out
	SawUnreachable                    // no route to host or network
	SawNothing                        // the probe itself failed: it says nothing about the server
	SawAlive                          // it answered but the role is unknown
	SawStarting                       // 57P03
	SawShutdown                       // 57P01 or 57P02 during the probe
)

var outcomeNames = [...]string{
	SawPrimary: "primary", SawStandby: "standby", SawRefused: "refused", SawTimeout: "timeout", SawSilent: "silent",
	SawUnreachable: "unreachable", SawNothing: "nothing", SawAlive: "alive", SawStarting: "starting", SawShutdown: "shutdown",
}

func (o Outcome) String() string {
	if o == 0 || int(o) >= len(outcomeNames) {
		return "unknown outcome"
	}
	return outcomeNames[o]
}

// Receiver is what pg_stat_wal_receiver shows on a standby.
type Receiver uint8

// Receiver states.
const (
	ReceiverUnknown   Receiver = iota // not asked, or columns are NULL (pg_monitor is missing)
	ReceiverGone                      // no row, or not streaming
	ReceiverStreaming                 // status is streaming
)

// Observation is what a probe that has logged in read. The zero value of a field is unknown.
type Observation struct {
	SystemID uint64 `msgpack:"system_id"`
	Timeline uint32 `msgpack:"timeline"`
	// PostmasterStart is in microseconds since 1970 by the server's clock,
	// Checkpoint the LSN of the latest one in its control file.
	PostmasterStart int64  `msgpack:"postmaster_start"`
	Checkpoint      uint64 `msgpack:"checkpoint"`
	WriteLSN        uint64 `msgpack:"write_lsn"`   // primary
	ReceiveLSN      uint64 `msgpack:"receive_lsn"` // standby
	ReplayLSN       uint64 `msgpack:"replay_lsn"`  // standby
	// Paused says that replay is paused or delayed.
	Paused       bool     `msgpack:"paused"`
	Receiver     Receiver `msgpack:"receiver"`
	ReceiverWord string   `msgpack:"receiver_word"`
	SlotName     string   `msgpack:"slot_name"`
	SenderHost   string   `msgpack:"sender_host"`
	SenderPort   string   `msgpack:"sender_port"`
	// LastMsgAge is the age of the receiver's last message, ReceiverTimeout its
	// wal_receiver_timeout.
	LastMsgAge      time.Duration `msgpack:"last_msg_age"`
	LastMsgKnown    bool          `msgpack:"last_msg_known"`
	ReceiverTimeout time.Duration `msgpack:"receiver_timeout"`
	// SyncStandbys are application names of synchronous standbys, SyncWaiting says
	// that commits wait for one: of a primary.
	SyncStandbys []string `msgpack:"sync_standbys"`
	SyncWaiting  bool     `msgpack:"sync_waiting"`
}

// ProbeDone answers ProbeRequest. Code is an SQLSTATE or a word, Words what is wrong with TLS
// where TLS failed, or with the method that the server asks for, Version the server_version as the server reports it, empty when no login told.
type ProbeDone struct {
	ID      uint64      `msgpack:"id"`
	Outcome Outcome     `msgpack:"outcome"`
	Code    string      `msgpack:"code"`
	Words   string      `msgpack:"words"`
	Obs     Observation `msgpack:"obs"`
	Version string      `msgpack:"version"`
	// Logged are the lines of level info, warn, error and fatal that the prober has logged.
	Logged []uint64 `msgpack:"logged"`
}

// BackendsRequest asks which of these processes a server still has, MaxBackends
// at most.
type BackendsRequest struct {
	ID     uint64   `msgpack:"id"`
	Target Target   `msgpack:"target"`
	PIDs   []uint32 `msgpack:"pids"`
}

// BackendsDone answers with those that it has. With an Error nothing is known.
type BackendsDone struct {
	ID    uint64   `msgpack:"id"`
	PIDs  []uint32 `msgpack:"pids"`
	Error string   `msgpack:"error"`
}

// SettingsRequest asks for the values of parameters of a server.
type SettingsRequest struct {
	ID     uint64   `msgpack:"id"`
	Target Target   `msgpack:"target"`
	Names  []string `msgpack:"names"`
}

// SettingsDone answers with the values of those that the server shows. With an
// Error nothing is known.
type SettingsDone struct {
	ID     uint64            `msgpack:"id"`
	Values map[string]string `msgpack:"values"`
	Error  string            `msgpack:"error"`
}

// ServerCancel has the prober send a CancelRequest to a server.
type ServerCancel struct {
	ID     uint64 `msgpack:"id"`
	Target Target `msgpack:"target"`
	PID    uint32 `msgpack:"pid"`
	Key    Secret `msgpack:"key"`
}

// ServerCancelStop takes a ServerCancel back: what isn't sent by then never is. The
// answer is that to the ServerCancel.
type ServerCancelStop struct {
	ID uint64 `msgpack:"id"`
}

// ServerCancelDone answers ServerCancel: the server has taken it if Error is
// empty, and nothing of it is under way any more.
type ServerCancelDone struct {
	ID    uint64 `msgpack:"id"`
	Error string `msgpack:"error"`
}

// Format keeps Password from being printed.
func (Login) Format(s fmt.State, _ rune) { hide(s, "Login") }

// Format keeps the passwords of the logins from being printed.
func (Target) Format(s fmt.State, _ rune) { hide(s, "Target") }

// Format keeps the passwords of the logins from being printed.
func (ProbeRequest) Format(s fmt.State, _ rune) { hide(s, "ProbeRequest") }

// Format keeps the passwords of the logins from being printed.
func (BackendsRequest) Format(s fmt.State, _ rune) { hide(s, "BackendsRequest") }

// Format keeps the passwords of the logins from being printed.
func (SettingsRequest) Format(s fmt.State, _ rune) { hide(s, "SettingsRequest") }

// Format keeps Key from being printed.
func (ServerCancel) Format(s fmt.State, _ rune) { hide(s, "ServerCancel") }

func (*ProberHello) Number() Number      { return 100 }
func (*ProberConfigure) Number() Number  { return 101 }
func (*ProberTLS) Number() Number        { return 114 }
func (*ProberReady) Number() Number      { return 102 }
func (*ProbeRequest) Number() Number     { return 103 }
func (*ProbeDone) Number() Number        { return 104 }
func (*BackendsRequest) Number() Number  { return 105 }
func (*BackendsDone) Number() Number     { return 106 }
func (*SettingsRequest) Number() Number  { return 107 }
func (*SettingsDone) Number() Number     { return 108 }
func (*ServerCancel) Number() Number     { return 109 }
func (*ServerCancelStop) Number() Number { return 110 }
func (*ServerCancelDone) Number() Number { return 111 }
