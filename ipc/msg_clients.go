package ipc

// NewClient hands an accepted connection to a worker; the socket comes with it.
type NewClient struct {
	ID uint64 `msgpack:"id"`
	// Address is "host:port" of the peer, empty for a Unix socket.
	Address string `msgpack:"address"`
}

// ClientsGone says that clients have left. It comes a moment later, since nothing
// hangs on it but counts.
type ClientsGone struct {
	IDs []uint64 `msgpack:"ids"`
}

// PoolKey names a pool: backends with the same key are interchangeable.
type PoolKey struct {
	Database string `msgpack:"database"`
	User     string `msgpack:"user"`
	// Params are the untracked start-up parameters in canonical form.
	Params string `msgpack:"params"`
}

// MaxKey is how large a PoolKey may be, in bytes: what a start-up packet has room
// for, with a little for names that the configuration puts in place of others.
const MaxKey = 10 << 10

// Size returns how many bytes of text a key has.
func (k *PoolKey) Size() int { return len(k.Database) + len(k.User) + len(k.Params) }

// LeaseRequest asks for permission to open one backend. ID is the worker's.
type LeaseRequest struct {
	ID  uint64  `msgpack:"id"`
	Key PoolKey `msgpack:"key"`
	// Requested is the database name as the client gave it: an alias counts
	// for the rule, and `disable` goes by it.
	Requested string `msgpack:"requested"`
	// NoWait asks for LeaseRefuse instead of a place in the queue.
	NoWait bool `msgpack:"no_wait"`
	// WaitedMS is how long the client has waited already, in milliseconds.
	WaitedMS int64 `msgpack:"waited_ms"`
	// Unproven: only the server can tell who the client is, so a share of the leases
	// is all that such clients may hold until a LeaseOpened.
	Unproven bool `msgpack:"unproven"`
}

// LeaseGrant permits one backend on Server, to be stamped with Epoch.
type LeaseGrant struct {
	ID     uint64 `msgpack:"id"`
	Lease  uint64 `msgpack:"lease"`
	Server int    `msgpack:"server"`
	Epoch  uint64 `msgpack:"epoch"`
}

// LeaseRefuse is a final no, as SQLSTATE and message for the client.
type LeaseRefuse struct {
	ID      uint64 `msgpack:"id"`
	Code    string `msgpack:"code"`
	Message string `msgpack:"message"`
}

// LeaseAbandon withdraws a LeaseRequest. A grant that crosses it is returned.
type LeaseAbandon struct {
	// ID is 0 when nothing is withdrawn and only Refused is told.
	ID uint64 `msgpack:"id"`
	// Refused counts the clients that were told that the pool is full, because they
	// got no backend in time, since it was told last.
	Refused int `msgpack:"refused"`
}

// LeaseOpened tells of the backend behind a lease, for orphans: its process id
// and cancel key on the server.
type LeaseOpened struct {
	Lease uint64 `msgpack:"lease"`
	PID   uint32 `msgpack:"pid"`
	Key   Secret `msgpack:"key"`
}

// LeaseReturn gives a lease back: its backend is closed, or was never opened.
type LeaseReturn struct {
	Lease uint64 `msgpack:"lease"`
}

// Reclaim asks a worker to give up a lease that somebody else waits for: at once
// when one that helps is idle, else at the next boundary of one. Key is the pool
// that it is wanted for: a backend of the same pool is handed over, another one
// is closed and its lease returned.
type Reclaim struct {
	ID  uint64  `msgpack:"id"`
	Key PoolKey `msgpack:"key"`
	// Leases are those that would help; the worker picks an idle one. Empty
	// means that any would.
	Leases []uint64 `msgpack:"leases"`
	// Own says that the one who waits is a client of the same worker.
	Own bool `msgpack:"own"`
	// WaitedMS is how long the one who waits has done so, in milliseconds.
	WaitedMS int64 `msgpack:"waited_ms"`
	// Size is how many leases there may be of those that would help.
	Size int `msgpack:"size"`
}

// ReclaimCancel says that Reclaim ID is no longer needed.
type ReclaimCancel struct {
	ID uint64 `msgpack:"id"`
}

// CancelRequest carries a client's cancel request that this worker doesn't
// know. ID is the worker's.
type CancelRequest struct {
	ID  uint64 `msgpack:"id"`
	PID uint32 `msgpack:"pid"`
	Key Secret `msgpack:"key"`
}

// CancelForward asks the other workers. ID is the supervisor's.
type CancelForward struct {
	ID  uint64 `msgpack:"id"`
	PID uint32 `msgpack:"pid"`
	Key Secret `msgpack:"key"`
}

// CancelAnswer says that the cancel was carried out, or that the session isn't
// this worker's.
type CancelAnswer struct {
	ID    uint64 `msgpack:"id"`
	Found bool   `msgpack:"found"`
}

// CancelDone ends a CancelRequest: the client's connection can be closed.
type CancelDone struct {
	ID uint64 `msgpack:"id"`
}

// Drain tells a worker to end. Graceful waits for the clients to leave, at most
// LimitMS (0: no limit); otherwise clients get FATAL 57P01 now.
type Drain struct {
	Graceful bool  `msgpack:"graceful"`
	LimitMS  int64 `msgpack:"limit_ms"`
}

// Drained says that the worker has no client and no backend any more.
type Drained struct{}

func (*NewClient) Number() Number     { return 30 }
func (*ClientsGone) Number() Number   { return 31 }
func (*LeaseRequest) Number() Number  { return 40 }
func (*LeaseGrant) Number() Number    { return 41 }
func (*LeaseRefuse) Number() Number   { return 42 }
func (*LeaseAbandon) Number() Number  { return 43 }
func (*LeaseOpened) Number() Number   { return 44 }
func (*LeaseReturn) Number() Number   { return 45 }
func (*Reclaim) Number() Number       { return 46 }
func (*ReclaimCancel) Number() Number { return 47 }
func (*CancelRequest) Number() Number { return 50 }
func (*CancelForward) Number() Number { return 51 }
func (*CancelAnswer) Number() Number  { return 52 }
func (*CancelDone) Number() Number    { return 53 }
func (*Drain) Number() Number         { return 70 }
func (*Drained) Number() Number       { return 71 }
