package control

// ConsoleResponse is a part of what the web console answers at /api: fields of status
// details and, in FailoverStatus, the response of failover status. The console adds what
// the workers know.
type ConsoleResponse struct {
	Status   string // as in StatusResponse, like all fields without a comment
	Writable bool   // as in PingResponse
	Reason   string `json:",omitempty"`

	MaxConnections  int
	NumberOfServers int
	SplitBrain      string `json:",omitempty"`
	Servers         map[string]Server
	Standbys        map[string]Standby
	Databases       []Database
	Confinement     Confinement
	FailoverStatus  FailoverStatusResponse
}
