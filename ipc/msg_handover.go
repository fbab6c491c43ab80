package ipc

// BackendState is everything that a worker knows about an idle backend, so that another worker can
// continue to use it.
type BackendState struct {
	Key    PoolKey `msgpack:"key"`
	Server int     `msgpack:"server"`
	Epoch  uint64  `msgpack:"epoch"`
	// PID and Secret are process id and cancel key of the backend on the server.
	PID    uint32 `msgpack:"pid"`
	Secret Secret `msgpack:"secret"`
	// AgeMS is how long ago it was opened, in milliseconds.
	AgeMS int64 `msgpack:"age_ms"`
	// NoPassword: the server asked for no password.
	NoPassword bool `msgpack:"no_password"`
	// Dirty: client DirtyBy, by the supervisor's id, has left something behind. Sequences:
	// it has left at least values of sequences.
	Dirty     bool   `msgpack:"dirty"`
	Sequences bool   `msgpack:"sequences"`
	DirtyBy   uint64 `msgpack:"dirty_by"`
	// Flushed: it is closed when no client needs it any more, because of a flush.
	Flushed bool `msgpack:"flushed"`
	// Base are the parameters right after the login, Params the present ones.
	Base   []Setting `msgpack:"base"`
	Params []Setting `msgpack:"params"`
	// Statements are the prepared statements, most recently used first. Serial is the number of the
	// last one that was made. Lost are names that are still to be closed.
	Statements []PreparedStatement `msgpack:"statements"`
	Serial     uint64              `msgpack:"serial"`
	Lost       []string            `msgpack:"lost"`
}

// Setting is a parameter of a backend with its value.
type Setting struct {
	Name  string `msgpack:"name"`
	Value string `msgpack:"value"`
}

// PreparedStatement is a statement on a backend: a hash of its text and parameters' types, and its
// name on the backend.
type PreparedStatement struct {
	Key  string `msgpack:"key"`
	Name string `msgpack:"name"`
}

// HandOver gives up an idle backend and its lease for a client of another worker that waits for one
// of the same pool. The connection to the server comes with it.
type HandOver struct {
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
}

// TakeOver answers LeaseRequest ID with a lease whose backend exists already. The connection to the
// server comes with it. ID is 0 for a backend that returns to the worker that has handed it over,
// because no client waits for it any more.
type TakeOver struct {
	ID      uint64       `msgpack:"id"`
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
}

func (*HandOver) Number() Number { return 48 }
func (*TakeOver) Number() Number { return 49 }
