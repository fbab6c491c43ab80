package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RecordVersion is the version of the record format that this code writes.
const RecordVersion = 1

// Record is what survives the supervisor: one JSON file in state_dir.
type Record struct {
	Version  int           `json:"version"`
	Epoch    uint64        `json:"epoch"`
	Primary  string        `json:"primary,omitempty"` // server name, empty when none was ever seen
	SystemID uint64        `json:"system_identifier,string,omitempty"`
	Timeline uint32        `json:"timeline,omitempty"` // of the primary, 0 unknown
	LSN      uint64        `json:"lsn,string,omitempty"`
	LSNAge   time.Duration `json:"lsn_age_ns,omitempty"` // age of LSN at the time of the record
	Hold     string        `json:"hold,omitempty"`       // why no primary was open, as a word for the machine itself
	Notify   bool          `json:"notify_owed,omitempty"`
	Old      string        `json:"notify_old,omitempty"`
	Attempts int           `json:"notify_attempts,omitempty"` // failed attempts of the notify script
	Planned  bool          `json:"notify_planned,omitempty"`  // it is for a planned switchover
	Paused   bool          `json:"paused,omitempty"`          // by command: no fence and no run
	Verified bool          `json:"verified"`                  // the primary was seen out of recovery
	Seen     bool          `json:"seen_writable"`
	Run      *RunRecord    `json:"run,omitempty"`
	Blocker  string        `json:"run_not_seen_empty,omitempty"` // id of a run that may still have processes
	RunTimes []int64       `json:"failovers_unix_ms,omitempty"`  // the failovers that failover_max counts
	Locked   bool          `json:"locked,omitempty"`             // failover_max forbids runs, until reset
	Cut      bool          `json:"cut_off,omitempty"`            // the primary was cut off, and nothing was promoted yet
	// Damaged: an earlier record could not be read, and nobody has said yet which server is the primary.
	Damaged bool           `json:"damaged,omitempty"`
	Servers []ServerRecord `json:"servers"`
}

// RunRecord is the last run, as long as it matters: in progress, or not settled.
type RunRecord struct {
	ID    string `json:"id"`
	Hook  string `json:"hook"`
	Phase string `json:"phase"`         // started: in progress; ended: rule 8 still has to be applied
	Why   string `json:"why,omitempty"` // how it ended
	Old   string `json:"old"`
	New   string `json:"new"`
	Left  bool   `json:"left,omitempty"` // some of its processes could not be ended
}

// ServerRecord is the part of a server's state that is saved.
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
	Spared    bool   `json:"spared,omitempty"` // Failed until it is seen in recovery
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

// DecodeRecord parses and validates a record. It returns an error for an unknown version or a contradiction.
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
	if r.Hold != "" && holdOf(r.Hold) == holdNone {
		return fmt.Errorf("unknown hold %q", r.Hold)
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

// record returns what would be saved now. Its servers share the memory of m.saving.draft.
func (m *Machine) record() Record {
	r := Record{
		Version: RecordVersion, Epoch: m.epoch, Primary: m.nameOf(m.known.index), SystemID: m.known.system, Timeline: m.known.timeline, LSN: m.known.lsn,
		LSNAge: m.known.age(m.now), Notify: m.notify.owed, Verified: m.known.verified, Seen: m.known.seenWritable,
		Paused: m.paused, Damaged: m.known.damaged,
	}
	if m.notify.owed {
		r.Old, r.Attempts, r.Planned = m.nameOf(m.notify.old), m.notify.attempts, m.notify.planned
	}
	if l := m.runs.last; l != nil {
		r.Hold = l.hold.String()
		if l.next >= 0 && l.id != "" {
			r.Run = &RunRecord{ID: l.id, Hook: HookFailover, Phase: "ended", Old: m.nameOf(l.old), New: m.nameOf(l.next), Why: l.why, Left: l.left}
		}
	}
	if m.runs.current != nil {
		r.Run = &RunRecord{ID: m.runs.current.id, Hook: m.runs.current.hook, Phase: "started", Old: m.nameOf(m.runs.current.old), New: m.nameOf(m.runs.current.next)}
	}
	r.Blocker, r.Cut, r.Locked, r.RunTimes = m.runs.blocker, m.runs.cut, m.runs.locked, slices.Clone(m.runs.times)
	m.saving.redraft(m.count())
	n := 0
	for i, s := range m.each() {
		m.saving.draft[n] = m.serverRecord(i, s)
		n++
	}
	r.Servers = m.saving.draft
	return r
}

func (m *Machine) serverRecord(i int, s *server) ServerRecord {
	out := ServerRecord{
		Name: s.cfg.Name, Host: s.cfg.Host, Port: s.cfg.Port, SystemID: s.system, Timeline: s.timeline,
		State: s.state.String(), Excluded: s.excluded, Spared: s.spared,
	}
	if s.qual == Detached || s.state == Failed {
		out.Qualifier = s.qual.String() // others will be seen again, and a save for them would delay a fence
	}
	if s.state == Failover && i == m.known.index {
		out.State = Primary.String() // a failover that has run nothing yet must leave no trace
	}
	if s.state == Failed {
		out.Reason = s.reason
	}
	return out
}

// saving is the record that was last handed out to be saved, and when to try again if that failed.
type saving struct {
	record Record         // the last record
	draft  []ServerRecord // memory for the servers of the next record, reused because most records are equal
	any    bool           // record is valid; if not, the next record is saved in any case
	at     time.Duration  // when the save of record was requested
	seq    uint64
	again  time.Duration // 0: no retry due
}

// redraft makes room for n servers in the draft, reusing its memory.
func (s *saving) redraft(n int) { s.draft = slices.Grow(s.draft[:0], n)[:n] }

// ask records that r, which contains the draft, is handed out to be saved. It returns the number of the Save.
func (s *saving) ask(r Record, now time.Duration) uint64 {
	s.seq++
	s.record, s.draft, s.any, s.at, s.again = r, nil, true, now, 0
	return s.seq
}

func (s *saving) retry(at time.Duration) { s.again = at }

// anew has the record saved once more, even if only the LSN has changed.
func (s *saving) anew() { s.any = false }

// saveAction returns a Save if the record has changed, if a save failed a second ago, or if the saved LSN is old.
func (m *Machine) saveAction() (Save, bool) {
	r := m.record()
	due := m.saving.again > 0 && m.now >= m.saving.again
	stale := r.LSN != m.saving.record.LSN && m.now-m.saving.at >= lsnSaveEvery
	if m.saving.any && !due && !stale && sameRecord(r, m.saving.record) {
		return Save{}, false
	}
	if m.epoch == 0 && !m.saving.any && m.known.index < 0 && !m.paused && !m.known.damaged {
		return Save{}, false // nothing worth saving yet
	}
	return Save{Seq: m.saving.ask(r, m.now), Record: r}, true
}

// sameRecord compares two records without their LSNs, which change with every probe. A test changes every other field.
func sameRecord(a, b Record) bool {
	if (a.Run == nil) != (b.Run == nil) || (a.Run != nil && *a.Run != *b.Run) || !slices.Equal(a.Servers, b.Servers) {
		return false
	}
	return a.Version == b.Version && a.Epoch == b.Epoch && a.Primary == b.Primary && a.SystemID == b.SystemID && a.Timeline == b.Timeline &&
		a.Hold == b.Hold && a.Notify == b.Notify && a.Old == b.Old && a.Verified == b.Verified && a.Seen == b.Seen && a.Blocker == b.Blocker &&
		a.Cut == b.Cut && a.Locked == b.Locked && slices.Equal(a.RunTimes, b.RunTimes) &&
		a.Attempts == b.Attempts && a.Planned == b.Planned && a.Paused == b.Paused && a.Damaged == b.Damaged
}

func (m *Machine) onSaveDone(ev SaveDone) {
	if ev.Seq != m.saving.seq {
		return
	}
	if ev.Err == nil {
		m.clear("save")
		return
	}
	m.raise("save", "the state can't be saved: "+ev.Err.Error())
	m.saving.retry(m.now + saveRetry)
}

// restore takes over what a previous supervisor has saved. It ignores a server whose address has changed, with a
// warning.
func (m *Machine) restore(r *Record) {
	if r == nil {
		return
	}
	m.epoch, m.paused = r.Epoch, r.Paused
	m.runs.restore(r)
	m.known.distrust(r.Damaged)
	for _, sr := range r.Servers {
		m.restoreServer(sr, r)
	}
	if i := m.indexOf(r.Primary); r.Seen && i >= 0 && m.servers[i].restored {
		m.known.restore(i, r, m.now)
		if r.Cut {
			m.runs.cutOff(m.now)
		}
		if m.servers[i].state != Failed {
			m.become(i, NotInitPrimary, Plain, "recorded as the primary")
		}
	}
	m.restoreRun(r)
}

func (m *Machine) restoreServer(sr ServerRecord, r *Record) {
	i := m.indexOf(sr.Name)
	if i < 0 {
		m.log(Warn, "a server of the state file is not configured any more", Attr{"server", sr.Name})
		return
	}
	s := m.servers[i]
	if s.cfg.Host != sr.Host || s.cfg.Port != sr.Port {
		m.log(Warn, "the server's address has changed: what was recorded of it is ignored", Attr{"server", sr.Name})
		return
	}
	s.restored, s.system, s.timeline, s.excluded = true, sr.SystemID, sr.Timeline, sr.Excluded
	s.state = NotInit
	if sr.State == Failed.String() {
		m.become(i, Failed, qualifierOf(sr.Qualifier), sr.Reason)
		s.spared = sr.Spared
	}
	s.recheck = sr.Qualifier == Detached.String() || sr.State == NotInit.String()
}

func qualifierOf(s string) Qualifier {
	for i, n := range qualifierNames {
		if n == s {
			return Qualifier(i)
		}
	}
	return Plain
}

// restoreRun restores a run. A run that was in progress is never repeated; rule 8 finds out what it has done.
func (m *Machine) restoreRun(r *Record) {
	if m.known.index < 0 {
		return
	}
	m.notify.restore(r, m.indexOf(r.Old), m.now)
	if m.notify.owed {
		m.recheckAll()
	}
	h, next, id, why := holdOf(r.Hold), -1, "", "as recorded: "+r.Hold
	if run := r.Run; run != nil && run.Hook == HookFailover {
		next, id, why = m.indexOf(run.New), run.ID, run.Why
		if run.Phase == "started" {
			h, why = holdLost, "the supervisor ended during the run, its outcome is unknown"
		}
		if next < 0 || !m.servers[next].restored {
			next, h = -1, holdNoCandidate
		}
	} else if run != nil && run.Hook == HookFence {
		h, why = holdFence, "the supervisor ended during failover_fence_script, its outcome is unknown"
	} else if run != nil {
		m.recheckAll()
		m.raise(alarmNotify, "the supervisor ended during the notify script, its outcome is unknown")
	}
	if h == holdNone || (h == holdLocked && m.cfg.MaxRuns <= 0) || (h == holdFollow && !m.cfg.Follow) {
		return // or the configuration doesn't want it any more
	}
	if s := m.servers[m.known.index]; r.Run == nil && s.state == Failed && s.reason != "" {
		why = s.reason
	}
	m.runs.conclude(ended{hold: h, id: id, old: m.known.index, next: next, why: why, left: r.Run != nil && r.Run.Left})
	if (h == holdLost || h == holdFence) && m.servers[m.known.index].state != Failed {
		m.become(m.known.index, Failed, Plain, why)
		if next >= 0 {
			m.become(next, Failed, Plain, why)
		}
	}
}
