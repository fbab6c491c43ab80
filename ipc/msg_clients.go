package ipc

// NewClient hands an accepted connection to a worker; the socket comes with it.
type NewClient struct {
	ID uint64 `msgpack:"id"`
	// Address is "host:port" of the peer, empty for a Unix socket.
	Address string `msgpack:"address"`
	// Ask says that the worker must send an AdmitRequest before it authenticates the client.
	Ask bool `msgpack:"ask"`
}

// AdmitRequest asks whether a client may come in, once its names are known.
type AdmitRequest struct {
	Client   uint64 `msgpack:"client"`
	User     string `msgpack:"user"`
	Database string `msgpack:"database"` // the real name
	// Count says that the client counts against the limits of its user and database until it leaves.
	Count bool `msgpack:"count"`
}

// AdmitAnswer answers it. Refusal is 0 if the client may come in; otherwise Refusal and Words are those of a LeaseRefuse.
type AdmitAnswer struct {
	Client  uint64   `msgpack:"client"`
	Refusal uint8    `msgpack:"refusal"`
	Words   []string `msgpack:"words"`
}

// ClientsGone says that clients have left. It is sent with some delay, since only counts depend on
// it.
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

// MaxKey is the largest size of a PoolKey in bytes: what fits into a start-up packet, with some
// room for names that the configuration puts in place of the client's.
const MaxKey = 10 << 10

// Size returns how many bytes of text a key has.
func (k *PoolKey) Size() int { return len(k.Database) + len(k.User) + len(k.Params) }

// LeaseRequest asks for permission to open one backend. The worker chooses ID.
type LeaseRequest struct {
	ID  uint64  `msgpack:"id"`
	Key PoolKey `msgpack:"key"`
	// Requested is the database name as the client gave it: limits and `disable` may use an alias.
	Requested string `msgpack:"requested"`
	// NoWait asks for LeaseRefuse instead of a place in the queue.
	NoWait bool `msgpack:"no_wait"`
	// WaitedMS is how long the client has waited already, in milliseconds.
	WaitedMS int64 `msgpack:"waited_ms"`
	// Unproven: only the server can tell who the client is. Such clients may hold only a share of
	// the leases until a LeaseOpened.
	Unproven bool `msgpack:"unproven"`
}

// LeaseGrant permits one backend on Server, which then belongs to Epoch.
type LeaseGrant struct {
	ID     uint64 `msgpack:"id"`
	Lease  uint64 `msgpack:"lease"`
	Server int    `msgpack:"server"`
	Epoch  uint64 `msgpack:"epoch"`
}

// LeaseRefuse refuses a lease for good. Refusal is a row of pgwire's table of refusals, which is what the client gets, and
// Words are what the row's text needs.
type LeaseRefuse struct {
	ID      uint64   `msgpack:"id"`
	Refusal uint8    `msgpack:"refusal"`
	Words   []string `msgpack:"words"`
}

// LeaseAbandon withdraws a LeaseRequest. If a grant is on its way, the worker returns it.
type LeaseAbandon struct {
	// ID is 0 if nothing is withdrawn and the message only reports Refused.
	ID uint64 `msgpack:"id"`
	// Refused counts the clients that got no backend in time and were told that the pool is full,
	// since the last report.
	Refused int `msgpack:"refused"`
}

// LeaseOpened reports process id and cancel key of a lease's backend, which the supervisor needs if
// the worker dies.
type LeaseOpened struct {
	Lease uint64 `msgpack:"lease"`
	PID   uint32 `msgpack:"pid"`
	Key   Secret `msgpack:"key"`
}

// LeaseReturn gives a lease back: its backend is closed, or was never opened.
type LeaseReturn struct {
	Lease uint64 `msgpack:"lease"`
}

// OpenAhead gives a worker a lease unasked: it opens a backend of the pool Key and keeps it for clients.
type OpenAhead struct {
	Lease  uint64  `msgpack:"lease"`
	Key    PoolKey `msgpack:"key"`
	Server int     `msgpack:"server"`
	Epoch  uint64  `msgpack:"epoch"`
}

// AheadFailed gives the lease of an OpenAhead back, because its backend couldn't be opened.
type AheadFailed struct {
	Lease uint64 `msgpack:"lease"`
	Error string `msgpack:"error"` // at most MaxAheadError bytes
}

// MaxAheadError bounds the text of an AheadFailed.
const MaxAheadError = 1024

// Reclaim asks a worker to give up a lease for which another client waits: at once if a suitable
// backend is idle, otherwise as soon as one can be given up. Key is the waiting client's pool: a
// backend of the same pool is handed over; any other backend is closed and its lease returned.
type Reclaim struct {
	ID  uint64  `msgpack:"id"`
	Key PoolKey `msgpack:"key"`
	// Leases are the suitable leases; the worker picks an idle one. Empty means that any lease is
	// suitable.
	Leases []uint64 `msgpack:"leases"`
	// Own says that the waiting client is one of the same worker.
	Own bool `msgpack:"own"`
	// WaitedMS is how long the waiting client has waited, in milliseconds.
	WaitedMS int64 `msgpack:"waited_ms"`
	// Size is how many suitable leases may exist.
	Size int `msgpack:"size"`
}

// ReclaimCancel says that Reclaim ID is no longer needed.
type ReclaimCancel struct {
	ID uint64 `msgpack:"id"`
}

// CancelRequest carries a client's cancel request whose session this worker doesn't have. The
// worker chooses ID.
type CancelRequest struct {
	ID  uint64 `msgpack:"id"`
	PID uint32 `msgpack:"pid"`
	Key Secret `msgpack:"key"`
}

// CancelForward asks the other workers. The supervisor chooses ID.
type CancelForward struct {
	ID  uint64 `msgpack:"id"`
	PID uint32 `msgpack:"pid"`
	Key Secret `msgpack:"key"`
}

// CancelAnswer says that the cancel was carried out, or that this worker doesn't have the session.
type CancelAnswer struct {
	ID    uint64 `msgpack:"id"`
	Found bool   `msgpack:"found"`
}

// CancelDone ends a CancelRequest: the client's connection can be closed.
type CancelDone struct {
	ID uint64 `msgpack:"id"`
}

// Drain tells a worker to end: its clients get FATAL 57P01.
type Drain struct{}

// Drained says that the worker has no client and no backend any more.
type Drained struct{}

func (*NewClient) Number() Number     { return 30 }
func (*ClientsGone) Number() Number   { return 31 }
func (*AdmitRequest) Number() Number  { return 32 }
func (*AdmitAnswer) Number() Number   { return 33 }
func (*LeaseRequest) Number() Number  { return 40 }
func (*LeaseGrant) Number() Number    { return 41 }
func (*LeaseRefuse) Number() Number   { return 42 }
func (*LeaseAbandon) Number() Number  { return 43 }
func (*LeaseOpened) Number() Number   { return 44 }
func (*LeaseReturn) Number() Number   { return 45 }
func (*Reclaim) Number() Number       { return 46 }
func (*ReclaimCancel) Number() Number { return 47 }
func (*OpenAhead) Number() Number     { return 58 }
func (*AheadFailed) Number() Number   { return 59 }
func (*CancelRequest) Number() Number { return 50 }
func (*CancelForward) Number() Number { return 51 }
func (*CancelAnswer) Number() Number  { return 52 }
func (*CancelDone) Number() Number    { return 53 }
func (*Drain) Number() Number         { return 70 }
func (*Drained) Number() Number       { return 71 }
