package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RecordVersion is the version of the record's format written by this code.
const RecordVersion = 1

// Record is what survives the supervisor, one JSON file in state_dir.
type Record struct {
	Version  int           `json:"version"`
	Epoch    uint64        `json:"epoch"`
	Primary  string        `json:"primary,omitempty"` // server name, empty when none was ever seen
	SystemID uint64        `json:"system_identifier,string,omitempty"`
	Timeline uint32        `json:"timeline,omitempty"` // of the primary, 0 unknown
	LSN      uint64        `json:"lsn,string,omitempty"`
	LSNAge   time.Duration `json:"lsn_age_ns,omitempty"` // age of LSN when the record was made
	Hold     string        `json:"hold,omitempty"`       // why no primary was open, a word of the machine's own
	Notify   bool          `json:"notify_owed,omitempty"`
	Old      string        `json:"notify_old,omitempty"`
	Attempts int           `json:"notify_attempts,omitempty"` // of the notify script that have failed
	Paused   bool          `json:"paused,omitempty"`          // by command: no fence and no run
	Verified bool          `json:"verified"`                  // the primary was seen out of recovery
	Seen     bool          `json:"seen_writable"`
	Run      *RunRecord    `json:"run,omitempty"`
	Blocker  string        `json:"run_not_seen_empty,omitempty"` // id of a run whose process group was not seen empty
	RunTimes []int64       `json:"failovers_unix_ms,omitempty"`  // those that failover_max counts
	Locked   bool          `json:"locked,omitempty"`             // by failover_max, until reset
	Cut      bool          `json:"cut_off,omitempty"`            // the primary was cut off, and nothing was promoted yet
	// Damaged: a record before this one could not be read, and nobody has said yet which server is the primary.
	Damaged bool           `json:"damaged,omitempty"`
	Servers []ServerRecord `json:"servers"`
}

// RunRecord is the last run that still matters: under way, or not settled.
type RunRecord struct {
	ID    string `json:"id"`
	Hook  string `json:"hook"`
	Phase string `json:"phase"`         // started: under way; ended: settled by rule 8; empty id: nothing ran
	Why   string `json:"why,omitempty"` // how it ended
	Old   string `json:"old"`
	New   string `json:"new"`
	Left  bool   `json:"left,omitempty"` // processes of it could not be ended
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

// record is what would be saved now; its servers are in m.saving.draft.
func (m *Machine) record() Record {
	r := Record{
		Version: RecordVersion, Epoch: m.epoch, Primary: m.nameOf(m.known.index), SystemID: m.known.system, Timeline: m.known.timeline, LSN: m.known.lsn,
		LSNAge: m.known.age(m.now), Notify: m.notify.owed, Verified: m.known.verified, Seen: m.known.seenWritable,
		Paused: m.paused, Damaged: m.known.damaged,
	}
	if m.notify.owed {
		r.Old, r.Attempts = m.nameOf(m.notify.old), m.notify.attempts
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
	m.saving.redraft(len(m.servers))
	for i, s := range m.servers {
		m.saving.draft[i] = m.serverRecord(i, s)
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
		out.Qualifier = s.qual.String() // others are seen again, and must not delay a fence by a save
	}
	if s.state == Failover && i == m.known.index {
		out.State = Primary.String() // a failover before its run leaves nothing behind
	}
	if s.state == Failed {
		out.Reason = s.reason
	}
	return out
}

// saving is what was asked to be made durable, and what is known of it.
type saving struct {
	record Record         // the last one
	draft  []ServerRecord // memory of the next one, since most turn out the same
	any    bool           // record counts; without it the next one is saved in any case
	at     time.Duration  // when record was asked to be saved
	seq    uint64
	again  time.Duration // 0: no retry due
}

// redraft makes room for a draft of n servers, in the memory of the one before.
func (s *saving) redraft(n int) { s.draft = slices.Grow(s.draft[:0], n)[:n] }

// ask notes that r, whose servers are the draft, is given away to be saved.
func (s *saving) ask(r Record, now time.Duration) uint64 {
	s.seq++
	s.record, s.draft, s.any, s.at, s.again = r, nil, true, now, 0
	return s.seq
}

func (s *saving) retry(at time.Duration) { s.again = at }

// anew has the record saved once more though nothing of it but the LSN may have changed.
func (s *saving) anew() { s.any = false }

// saveAction asks for a save when the record has changed, when one has failed a second ago, or when its LSN is old.
func (m *Machine) saveAction() (Save, bool) {
	r := m.record()
	due := m.saving.again > 0 && m.now >= m.saving.again
	stale := r.LSN != m.saving.record.LSN && m.now-m.saving.at >= lsnSaveEvery
	if m.saving.any && !due && !stale && sameRecord(r, m.saving.record) {
		return Save{}, false
	}
	if m.epoch == 0 && !m.saving.any && m.known.index < 0 && !m.paused && !m.known.damaged {
		return Save{}, false // nothing worth keeping yet
	}
	return Save{Seq: m.saving.ask(r, m.now), Record: r}, true
}

// sameRecord compares without the LSN, which changes with every probe. A test changes every other field.
func sameRecord(a, b Record) bool {
	if (a.Run == nil) != (b.Run == nil) || (a.Run != nil && *a.Run != *b.Run) || !slices.Equal(a.Servers, b.Servers) {
		return false
	}
	return a.Version == b.Version && a.Epoch == b.Epoch && a.Primary == b.Primary && a.SystemID == b.SystemID && a.Timeline == b.Timeline &&
		a.Hold == b.Hold && a.Notify == b.Notify && a.Old == b.Old && a.Verified == b.Verified && a.Seen == b.Seen && a.Blocker == b.Blocker &&
		a.Cut == b.Cut && a.Locked == b.Locked && slices.Equal(a.RunTimes, b.RunTimes) &&
		a.Attempts == b.Attempts && a.Paused == b.Paused && a.Damaged == b.Damaged
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

// restore takes over what a previous supervisor left. An entry whose address has changed is ignored with a warning.
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
	s.recheck = sr.Qualifier == Detached.String()
}

func qualifierOf(s string) Qualifier {
	for i, n := range qualifierNames {
		if n == s {
			return Qualifier(i)
		}
	}
	return Plain
}

// restoreRun: a run that was under way is never repeated; rule 8 decides what it has done.
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
		m.raise("notify", "the supervisor ended during the notify script, its outcome is unknown")
	}
	if h == holdNone || (h == holdLocked && m.cfg.MaxRuns <= 0) || (h == holdFollow && !m.cfg.Follow) {
		return // or the configuration doesn't ask for it any more
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
