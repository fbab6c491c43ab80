package ipc

// ReportRequest asks a worker for its counters, and for its sessions as well
// when Sessions is set.
type ReportRequest struct {
	ID       uint64 `msgpack:"id"`
	Sessions bool   `msgpack:"sessions"`
}

// Report holds a worker's counters since its start, and its gauges. A restarted
// worker starts at zero; what dead workers had counted is lost.
type Report struct {
	ID       uint64            `msgpack:"id"`
	Counters map[string]uint64 `msgpack:"counters"`
	Gauges   map[string]int64  `msgpack:"gauges"`
	// SessionTimes is the histogram of session lengths: a count for each bucket, whose
	// bounds are in worker/report.go, and one for all longer sessions.
	SessionTimes []uint64 `msgpack:"session_times"`
	// SessionSeconds is the sum of all session lengths.
	SessionSeconds float64 `msgpack:"session_seconds"`
}

// ReportSession is one backend, attached or idle, or one client that waits.
// Times are Unix seconds.
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
}

// ReportEnd closes the answer to a ReportRequest.
type ReportEnd struct {
	ID uint64 `msgpack:"id"`
}

func (*ReportRequest) Number() Number { return 60 }
func (*Report) Number() Number        { return 61 }
func (*ReportSession) Number() Number { return 62 }
func (*ReportEnd) Number() Number     { return 63 }
