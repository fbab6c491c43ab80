package ipc

// BackendState is all that a worker knows of an idle backend, so that another
// one can go on with it.
type BackendState struct {
	Key    PoolKey `msgpack:"key"`
	Server int     `msgpack:"server"`
	Epoch  uint64  `msgpack:"epoch"`
	// PID and Secret are the backend's process id and cancel key on the server.
	PID    uint32 `msgpack:"pid"`
	Secret Secret `msgpack:"secret"`
	// AgeMS is how long ago it was opened, in milliseconds.
	AgeMS int64 `msgpack:"age_ms"`
	// NoPassword: the server asked for none.
	NoPassword bool `msgpack:"no_password"`
	// Dirty: client DirtyBy, by the supervisor's id, has left something behind. Sequences:
	// it has left at least values of sequences.
	Dirty     bool   `msgpack:"dirty"`
	Sequences bool   `msgpack:"sequences"`
	DirtyBy   uint64 `msgpack:"dirty_by"`
	// Base are the parameters after its login, Params those of now.
	Base   []Setting `msgpack:"base"`
	Params []Setting `msgpack:"params"`
	// Statements are the prepared ones, most recently used first; Serial is the
	// number of the one that was made last; Lost are names that are to be closed.
	Statements []PreparedStatement `msgpack:"statements"`
	Serial     uint64              `msgpack:"serial"`
	Lost       []string            `msgpack:"lost"`
}

// Setting is a parameter of a backend with its value.
type Setting struct {
	Name  string `msgpack:"name"`
	Value string `msgpack:"value"`
}

// PreparedStatement is a statement on a backend: a hash of what it is, and its
// name there.
type PreparedStatement struct {
	Key  string `msgpack:"key"`
	Name string `msgpack:"name"`
}

// HandOver gives an idle backend and its lease up for a client of another worker
// that waits for one of the same pool; the connection to the server comes with it.
type HandOver struct {
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
}

// TakeOver answers LeaseRequest ID with a lease whose backend exists already; the
// connection to the server comes with it. ID is 0 for a backend that comes back
// to the worker that has handed it over, because nobody waits for it any more.
type TakeOver struct {
	ID      uint64       `msgpack:"id"`
	Lease   uint64       `msgpack:"lease"`
	Backend BackendState `msgpack:"backend"`
}

func (*HandOver) Number() Number { return 48 }
func (*TakeOver) Number() Number { return 49 }
