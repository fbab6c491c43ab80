package failover

import (
	"fmt"
	"time"
)

// Heritage is what an open machine passes on to the machine of the next program in the same
// process. Times are on the clock of Step, which goes on. The numbers of Outcome and the fields
// of Observation are part of it, so they never change their meaning.
type Heritage struct {
	Record   Record           `msgpack:"record"`
	FenceSeq uint64           `msgpack:"fence_seq"`
	Since    time.Duration    `msgpack:"since"` // of the primary, 0 if it has replaced none
	Sync     []string         `msgpack:"sync"`
	Alarm    string           `msgpack:"notify_alarm"`
	Servers  []ServerHeritage `msgpack:"servers"`
}

// ServerHeritage is what the machine knows of a server beside the record.
type ServerHeritage struct {
	State       string        `msgpack:"state"`
	Qualifier   string        `msgpack:"qualifier"`
	Reason      string        `msgpack:"reason"`
	Relabel     bool          `msgpack:"relabel"`
	Recheck     bool          `msgpack:"recheck"`
	Met         bool          `msgpack:"met"`
	Announced   bool          `msgpack:"announced"`
	AnnouncedAt time.Duration `msgpack:"announced_at"`
	Last        Outcome       `msgpack:"last"`
	Code        string        `msgpack:"code"`
	Words       string        `msgpack:"words"`
	Seen        Observation   `msgpack:"seen"`
	Started     time.Duration `msgpack:"started"` // of the latest probe
	Ended       time.Duration `msgpack:"ended"`
}

// Unsettled returns why the machine can't be passed on now, "" if it can: then it is open, and
// nothing that it has begun is under way.
func (m *Machine) Unsettled() string {
	switch {
	case m.phase != PhaseOpen:
		return fmt.Sprintf("the failover is in phase %s: %s", m.phase, m.why)
	case m.runs.current != nil:
		return "a script runs: " + m.runs.current.hook
	case m.runs.blocker != "":
		return "run " + m.runs.blocker + " may still have processes"
	case m.runs.last != nil || m.runs.pending >= 0:
		return "the last failover is not settled"
	case m.plan != nil:
		return "a planned switchover is under way"
	case len(m.commands) > 0:
		return "a command is under way"
	case m.stopping:
		return "pgagroal is shutting down"
	case m.saving.again > 0:
		return "the state can't be saved"
	}
	return ""
}

// PassOn returns the heritage of a machine that is settled.
func (m *Machine) PassOn() Heritage {
	r := m.record()
	r.Servers = append([]ServerRecord(nil), r.Servers...)
	h := Heritage{Record: r, FenceSeq: m.fence.seq, Since: m.known.since, Sync: m.known.sync}
	for _, a := range m.alarms {
		if a.name == alarmNotify {
			h.Alarm = a.text
		}
	}
	for _, s := range m.servers {
		h.Servers = append(h.Servers, ServerHeritage{
			State: s.state.String(), Qualifier: s.qual.String(), Reason: s.reason, Relabel: s.relabel, Recheck: s.recheck,
			Met: s.met, Announced: s.announced, AnnouncedAt: s.announcedAt,
			Last: s.last, Code: s.code, Words: s.words, Seen: s.obs, Started: s.lastStarted, Ended: s.lastEnded,
		})
	}
	return h
}

// Continue returns a machine that goes on open where another one has stopped: no client
// waits until the servers have been probed. It returns an error if the servers aren't the same.
func Continue(cfg Config, h Heritage, now time.Duration) (*Machine, error) {
	r := h.Record
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("take over the state of the failover: %w", err)
	}
	m := New(cfg, &r, now)
	primary := m.indexOf(r.Primary)
	if primary < 0 || len(h.Servers) != len(r.Servers) || len(r.Servers) != len(m.servers) {
		return nil, fmt.Errorf("take over the state of the failover: the configured servers are not those that it is about")
	}
	for i, sr := range r.Servers {
		if j := m.indexOf(sr.Name); j >= 0 && m.servers[j].restored {
			m.inherit(j, h.Servers[i])
			continue
		}
		return nil, fmt.Errorf("take over the state of the failover: server %s is gone, or has another address", sr.Name)
	}
	m.known.inherit(primary, &r, h, now)
	m.runs.forget()
	m.fence.inherit(h.FenceSeq)
	if h.Alarm != "" {
		m.raise(alarmNotify, h.Alarm)
	}
	m.saving.inherit(m.record())
	m.goesOn, m.first = true, nil // nothing of this is news
	return m, nil
}

// inherit takes over what another machine knew of a server.
func (m *Machine) inherit(i int, h ServerHeritage) {
	s := m.servers[i]
	if st, ok := stateOf(h.State); ok {
		m.become(i, st, qualifierOf(h.Qualifier), h.Reason)
	}
	s.relabel, s.recheck = h.Relabel, h.Recheck
	s.met, s.announced, s.announcedAt = h.Met, h.Announced, h.AnnouncedAt
	s.last, s.code, s.words, s.obs, s.lastStarted, s.lastEnded = h.Last, h.Code, h.Words, h.Seen, h.Started, h.Ended
	s.wanted = true
}

// inherit takes over the recorded primary of another machine, whether it was seen writable or not.
func (k *known) inherit(i int, r *Record, h Heritage, now time.Duration) {
	k.restore(i, r, now)
	k.seenWritable, k.damaged, k.since, k.sync = r.Seen, r.Damaged, h.Since, h.Sync
	k.changed()
}

// inherit takes the record that another machine has saved for the last one.
func (s *saving) inherit(r Record) { s.record, s.draft, s.any = r, nil, true }

// inherit goes on with the numbers of fences: a worker knows those of another machine.
func (f *fence) inherit(seq uint64) {
	f.seq = seq
	f.changed()
}

// onUpgraded shows an upgrade that has failed, until one succeeds or pgagroal starts again.
func (m *Machine) onUpgraded(ev Upgraded) {
	m.set(ev.Problem != "", "upgrade", "an upgrade has failed, and nothing has changed: "+ev.Problem)
}
