package failover

import "time"

// HistoryEntry is one line of the history file: what was decided, why, and how it went.
type HistoryEntry struct {
	Wall       time.Time         `json:"time"` // filled in by the supervisor
	Kind       string            `json:"kind"` // a hook, or verified, adopted, settled, no_candidate, cancelled, switch_to, clear_server, failback, locked, reset, pause, resume
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
	Exit       *int              `json:"exit,omitempty"` // of a run whose end is known, -1 for a signal and when nothing ran
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

// remember appends an entry, with the fields that all entries have, to the history.
func (m *Machine) remember(e HistoryEntry) {
	e.Epoch = m.epoch
	if e.Timeline == 0 {
		e.Timeline = m.known.timeline
	}
	if m.known.lsn != 0 {
		e.LSN = lsnText(m.known.lsn)
	}
	for _, s := range m.each() {
		if s.last != 0 {
			e.Probes = append(e.Probes, s.cfg.Name+": "+s.seen())
		}
	}
	e.Candidates = append([]Verdict(nil), m.verdicts...)
	e.Durations = m.durations()
	m.later(History{e})
}

func (m *Machine) rememberRun(r *run, ev RunEnded) {
	result := "exit code 0"
	if ev.Exit != 0 || ev.Signal != 0 || ev.TimedOut || ev.Refused != "" {
		result = endText(ev)
	}
	m.remember(HistoryEntry{
		Kind: r.hook, Reason: r.reason, Result: result, Old: m.nameOf(r.old), New: m.nameOf(r.next), RunID: r.id, Hook: r.hook,
		Args: r.args, Exit: &ev.Exit, Signal: ev.Signal, TimedOut: ev.TimedOut,
	})
}

// durations returns how long each phase since the suspicion has taken.
func (m *Machine) durations() map[string]string {
	if len(m.trail) == 0 {
		return nil
	}
	sum := map[string]time.Duration{}
	for i, t := range m.trail {
		end := m.now
		if i+1 < len(m.trail) {
			end = m.trail[i+1].at
		}
		sum[t.phase.String()] += end - t.at
	}
	out := map[string]string{}
	for k, d := range sum {
		out[k] = d.Round(time.Millisecond).String()
	}
	return out
}
