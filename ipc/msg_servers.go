package ipc

// ServerState is the complete state of the servers, as the supervisor sees it. Gen grows with every
// snapshot, Epoch with every change of primary.
type ServerState struct {
	Gen   uint64 `msgpack:"gen"`
	Epoch uint64 `msgpack:"epoch"`
	// Open says that backends may be opened and given to clients. While it is false logins are
	// held, at most for failover_client_wait.
	Open bool `msgpack:"open"`
	// Primary is the index of the server that takes clients, -1 for none.
	Primary int `msgpack:"primary"`
	// Why says in a few words why Open is false, for FATAL 57P03. Clients see it, so it names no
	// path, host or process.
	Why     string       `msgpack:"why"`
	Servers []ServerInfo `msgpack:"servers"`
	// HoldAll and Hold, names of databases, say whose clients wait until a command lets them go on.
	// Their backends are closed as soon as these clients don't need them.
	HoldAll bool     `msgpack:"hold_all"`
	Hold    []string `msgpack:"hold"`
	// Graceful is set while a graceful shutdown refuses new logins.
	Graceful bool `msgpack:"graceful"`
}

// ServerInfo is one server of ServerState. Network is "tcp" or "unix", and Addresses are what net.Dial
// takes for it, in the order in which to try them; both are empty if the name has never resolved.
type ServerInfo struct {
	Index     int      `msgpack:"index"`
	State     string   `msgpack:"state"`
	Network   string   `msgpack:"network"`
	Addresses []string `msgpack:"addresses"`
}

// HintKind says what kind of failure a worker has seen.
type HintKind uint8

// The kinds of Hint.
const (
	HintRefused HintKind = iota + 1
	HintReset
	HintEOF
	HintTimeout
	// HintSQLState is an error of the server: 57P01, 57P02, 57P03, 25006.
	HintSQLState
	HintUnreachable
	// HintDied says that a session has reported the death of its postmaster; SQLState is 57P01, as
	// after an administrator's command.
	HintDied
)

// Hint is a worker's report that something is wrong with a server. It only causes a probe.
type Hint struct {
	Server   int      `msgpack:"server"`
	Epoch    uint64   `msgpack:"epoch"`
	Kind     HintKind `msgpack:"kind"`
	SQLState string   `msgpack:"sqlstate"`
	Text     string   `msgpack:"text"`
}

// Fence tells a worker to abort every backend of epochs up to and including Epoch, in any state,
// and to discard everything that these send from now on.
type Fence struct {
	Epoch uint64 `msgpack:"epoch"`
	Seq   uint64 `msgpack:"seq"`
}

// Fenced says that the worker sends nothing to backends of epochs up to Epoch any more. Aborted
// counts backends, Sessions the clients that lost theirs. Seq is that of the Fence: an epoch may be
// fenced twice.
type Fenced struct {
	Epoch    uint64 `msgpack:"epoch"`
	Seq      uint64 `msgpack:"seq"`
	Aborted  int    `msgpack:"aborted"`
	Sessions int    `msgpack:"sessions"`
}

// Quiesce asks how many sessions are in a transaction on backends of epochs up to Epoch. A
// switchover is in progress: from now until a ServerState is open, the worker ends each session
// that owns its backend and is not in a transaction.
type Quiesce struct {
	ID    uint64 `msgpack:"id"`
	Epoch uint64 `msgpack:"epoch"`
}

// Quiesced answers Quiesce. Busy counts sessions that are in a transaction, or may be.
type Quiesced struct {
	ID   uint64 `msgpack:"id"`
	Busy int    `msgpack:"busy"`
}

// ActivityRequest asks how long ago the last byte came from each server.
type ActivityRequest struct {
	ID uint64 `msgpack:"id"`
}

// Activity answers with the milliseconds since the last byte, per server index; -1 for never.
type Activity struct {
	ID     uint64  `msgpack:"id"`
	AgesMS []int64 `msgpack:"ages_ms"`
}

// Standby is what a login showed about recovery (in_hot_standby).
type Standby uint8

// The values of Standby.
const (
	StandbyUnknown Standby = iota
	StandbyOff
	StandbyOn
)

// LoginSeen reports a login to a server, by the backend that was opened under Lease: the server's
// role and version, and whether the login needed no password.
type LoginSeen struct {
	Lease      uint64  `msgpack:"lease"`
	HotStandby Standby `msgpack:"hot_standby"`
	NoPassword bool    `msgpack:"no_password"`
	Version    string  `msgpack:"version"`
}

func (*ServerState) Number() Number     { return 20 }
func (*Hint) Number() Number            { return 21 }
func (*Fence) Number() Number           { return 22 }
func (*Fenced) Number() Number          { return 23 }
func (*ActivityRequest) Number() Number { return 24 }
func (*Activity) Number() Number        { return 25 }
func (*LoginSeen) Number() Number       { return 26 }
func (*Quiesce) Number() Number         { return 27 }
func (*Quiesced) Number() Number        { return 28 }
