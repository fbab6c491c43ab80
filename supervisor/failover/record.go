package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// RecordVersion is the version of the record's format written by this code.
const RecordVersion = 1

// Record is what survives the supervisor, one JSON file in state_dir.
type Record struct {
	Version  int            `json:"version"`
	Epoch    uint64         `json:"epoch"`
	Primary  string         `json:"primary,omitempty"` // server name, empty when none was ever seen
	SystemID uint64         `json:"system_identifier,string,omitempty"`
	Timeline uint32         `json:"timeline,omitempty"` // of the primary, 0 unknown
	LSN      uint64         `json:"lsn,string,omitempty"`
	LSNAge   time.Duration  `json:"lsn_age_ns,omitempty"` // age of LSN when the record was made
	Hold     string         `json:"hold,omitempty"`       // why no primary was open, a word of the machine's own
	Notify   bool           `json:"notify_owed,omitempty"`
	Verified bool           `json:"verified"` // the primary was seen out of recovery
	Run      *RunRecord     `json:"run,omitempty"`
	Servers  []ServerRecord `json:"servers"`
}

// RunRecord is the last run that still matters: under way, or not settled.
type RunRecord struct {
	ID    string `json:"id"`
	Hook  string `json:"hook"`
	Phase string `json:"phase"` // started, ended, failed, lost
	Old   string `json:"old"`
	New   string `json:"new"`
}

// ServerRecord is one server's durable part.
type ServerRecord struct {
	Name      string `json:"name"`
	Host      string `json:"host"`
	Port      string `json:"port"`
	SystemID  uint64 `json:"system_identifier,string,omitempty"`
	Timeline  uint32 `json:"timeline,omitempty"`
	State     string `json:"state"`
	Qualifier string `json:"qualifier,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Excluded  bool   `json:"excluded,omitempty"`
}

// EncodeRecord renders the record as indented JSON with a final newline.
func EncodeRecord(r Record) ([]byte, error) {
	r.Version = RecordVersion
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodeRecord parses and validates a record; an unknown version or a contradiction is an error.
func DecodeRecord(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	return &r, nil
}

func (r *Record) validate() error {
	if r.Version != RecordVersion {
		return fmt.Errorf("version %d is not %d", r.Version, RecordVersion)
	}
	names := map[string]bool{}
	for _, s := range r.Servers {
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("server name %q is empty or repeated", s.Name)
		}
		if _, ok := stateOf(s.State); !ok {
			return fmt.Errorf("server %s has the unknown state %q", s.Name, s.State)
		}
		names[s.Name] = true
	}
	if r.Primary != "" && !names[r.Primary] {
		return fmt.Errorf("primary %q is not among the servers", r.Primary)
	}
	if r.Run != nil && (r.Run.ID == "" || !names[r.Run.Old] || !names[r.Run.New]) {
		return errors.New("run without id or with unknown servers")
	}
	return nil
}

func stateOf(s string) (State, bool) {
	for i, n := range stateNames {
		if n == s {
			return State(i), true
		}
	}
	return 0, false
}
