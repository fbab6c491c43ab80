package failover

import "time"

// HistoryEntry is one line of the history file: what was decided, from what, and how it went.
type HistoryEntry struct {
	Wall       time.Time         `json:"time"` // filled in by the supervisor
	Kind       string            `json:"kind"` // failover, notify, adopted, settled, no_candidate, cancelled, switch_to, clear_server
	Epoch      uint64            `json:"epoch"`
	Reason     string            `json:"reason"`
	Result     string            `json:"result"`
	Old        string            `json:"old,omitempty"`
	New        string            `json:"new,omitempty"`
	Timeline   uint32            `json:"timeline,omitempty"`
	LSN        string            `json:"lsn,omitempty"`
	Probes     []string          `json:"probes,omitempty"`
	Candidates []Verdict         `json:"candidates,omitempty"`
	RunID      string            `json:"run_id,omitempty"`
	Hook       string            `json:"hook,omitempty"`
	Args       []string          `json:"argv,omitempty"`
	Exit       int               `json:"exit"`
	Signal     int               `json:"signal,omitempty"`
	TimedOut   bool              `json:"timed_out,omitempty"`
	Output     string            `json:"output,omitempty"` // tail, filled in by the supervisor for RunID
	Durations  map[string]string `json:"durations,omitempty"`
}

// Verdict is one server as the ranking saw it.
type Verdict struct {
	Name     string `json:"name"`
	Timeline uint32 `json:"timeline"`
	LSN      string `json:"lsn"`
	Verdict  string `json:"verdict"` // "chosen", "eligible", or why not
}
