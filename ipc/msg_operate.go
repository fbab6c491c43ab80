package ipc

// FlushMode says which backends a Flush is about.
type FlushMode uint8

// The modes.
const (
	// FlushIdle closes the backends that no client has.
	FlushIdle FlushMode = iota + 1
	// FlushGracefully is FlushIdle, and marks all others: each is closed when its client doesn't
	// need it any more.
	FlushGracefully
	// FlushMarked closes the backends that an earlier FlushGracefully has marked, and disconnects
	// their clients.
	FlushMarked
	// FlushAll is FlushGracefully, and disconnects the clients that have a backend.
	FlushAll
)

// Flush closes backends of one database, or of all if Database is empty.
type Flush struct {
	ID       uint64    `msgpack:"id"`
	Mode     FlushMode `msgpack:"mode"`
	Database string    `msgpack:"database"`
}

// Flushed answers Flush: how many backends were closed, and how many are closed when their clients
// don't need them any more.
type Flushed struct {
	ID     uint64 `msgpack:"id"`
	Closed int    `msgpack:"closed"`
	Marked int    `msgpack:"marked"`
}

// Kick disconnects a client.
type Kick struct {
	ID     uint64 `msgpack:"id"`
	Client uint64 `msgpack:"client"`
}

// Kicked answers Kick. Found says whether the worker still had the client.
type Kicked struct {
	ID    uint64 `msgpack:"id"`
	Found bool   `msgpack:"found"`
}

// StatsClear sets the figures that a worker has counted back to zero.
type StatsClear struct{}

func (*Flush) Number() Number      { return 64 }
func (*Flushed) Number() Number    { return 65 }
func (*Kick) Number() Number       { return 66 }
func (*Kicked) Number() Number     { return 67 }
func (*StatsClear) Number() Number { return 68 }
