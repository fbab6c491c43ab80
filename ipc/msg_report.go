package ipc

// ReportRequest asks a worker for its gauges, and for its sessions as well
// when Sessions is set.
type ReportRequest struct {
	ID       uint64 `msgpack:"id"`
	Sessions bool   `msgpack:"sessions"`
}

// Report holds a worker's gauges. What it has counted is in Stats.
type Report struct {
	ID     uint64           `msgpack:"id"`
	Gauges map[string]int64 `msgpack:"gauges"`
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
