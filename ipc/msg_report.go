package ipc

// ReportRequest asks a worker for its gauges; with Sessions also for its backends and the clients that
// wait, with Clients for all its clients.
type ReportRequest struct {
	ID       uint64 `msgpack:"id"`
	Sessions bool   `msgpack:"sessions"`
	Clients  bool   `msgpack:"clients"`
}

// Report holds a worker's gauges, and of what it has counted the Traffic. All else that it has
// counted is in Stats.
type Report struct {
	ID      uint64           `msgpack:"id"`
	Gauges  map[string]int64 `msgpack:"gauges"`
	Traffic Traffic          `msgpack:"traffic"`
}

// Traffic is what a worker has served since its start.
type Traffic struct {
	Queries      Tally `msgpack:"queries"`
	Transactions Tally `msgpack:"transactions"`
	Waits        Tally `msgpack:"waits"` // of clients for a backend
}

// Tally is how many of a kind there were, and how long all of them took together, in nanoseconds.
type Tally struct {
	N   uint64 `msgpack:"n"`
	Sum uint64 `msgpack:"sum"`
}

// Add adds another worker's.
func (t *Traffic) Add(other Traffic) {
	t.Queries.add(other.Queries)
	t.Transactions.add(other.Transactions)
	t.Waits.add(other.Waits)
}

func (t *Tally) add(other Tally) {
	t.N += other.N
	t.Sum += other.Sum
}

// ReportSession is one backend, attached or idle, or one client; ClientID is the client's id, 0 for
// none. Times are Unix seconds.
type ReportSession struct {
	ID       uint64 `msgpack:"id"`
	Lease    uint64 `msgpack:"lease"`
	Server   int    `msgpack:"server"`
	State    string `msgpack:"state"`
	Start    int64  `msgpack:"start"`
	Since    int64  `msgpack:"since"`
	PID      uint32 `msgpack:"pid"`
	FD       int    `msgpack:"fd"`
	Database string `msgpack:"database"`
	User     string `msgpack:"user"`
	AppName  string `msgpack:"appname"`
	Client   string `msgpack:"client"`
	ClientID uint64 `msgpack:"client_id"`
	// WaitingSince is when a waiting client began to wait for a backend.
	WaitingSince int64 `msgpack:"waiting_since"`
}

// ReportEnd closes the answer to a ReportRequest.
type ReportEnd struct {
	ID uint64 `msgpack:"id"`
}

func (*ReportRequest) Number() Number { return 60 }
func (*Report) Number() Number        { return 61 }
func (*ReportSession) Number() Number { return 62 }
func (*ReportEnd) Number() Number     { return 63 }
