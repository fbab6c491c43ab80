package failover

import "time"

// counter counts the changes of state, phase and run. Step goes on evaluating until a round adds none, so each writer
// counts what it changes, and only that.
type counter struct{ changes uint64 }

func (c *counter) changed() { c.changes++ }

// assign writes one value and counts it if it is another one.
func assign[T comparable](c *counter, to *T, v T) {
	if *to != v {
		*to = v
		c.changed()
	}
}

// known is the recorded primary and what was last seen of it. Only its own methods write it.
type known struct {
	*counter
	index    int // in the configuration, -1: none is recorded
	system   uint64
	timeline uint32
	since    time.Duration // when it became the primary, in this process
	verified bool          // it was seen out of recovery since it became the primary
	// seenWritable: it was seen writable, by this process or by the one that wrote the record; no run without.
	seenWritable bool
	// damaged: the record before could not be read, and nobody has said yet which server is the primary.
	damaged bool
	lsn     uint64 // last LSN seen on it
	lsnAt   time.Duration
	sync    []string // its synchronous standbys when last seen
}

// openOn takes a server for the primary without a failover. What was seen of the recorded one stays if it is the same.
func (k *known) openOn(i int, verified bool) {
	assign(k.counter, &k.seenWritable, verified || (i == k.index && k.seenWritable))
	assign(k.counter, &k.index, i)
	assign(k.counter, &k.verified, true)
	k.distrust(false)
}

// replace records another server. A synchronous standby, an LSN and a look belonged to the one before.
func (k *known) replace(i int, s *server, verified bool, now time.Duration) {
	k.index, k.system, k.timeline, k.since, k.verified = i, s.system, s.timeline, now, verified
	k.seenWritable = k.seenWritable || verified
	k.lsn, k.sync, k.damaged = 0, nil, false
	k.changed()
}

// restore takes over what the record says of server i.
func (k *known) restore(i int, r *Record, now time.Duration) {
	k.index, k.system, k.timeline, k.verified, k.seenWritable = i, r.SystemID, r.Timeline, r.Verified, true
	k.lsn, k.lsnAt = r.LSN, now-r.LSNAge
	k.changed()
}

// distrust says whether a person has to name the primary, since the record was damaged.
func (k *known) distrust(damaged bool) { assign(k.counter, &k.damaged, damaged) }

// forget leaves no recorded primary.
func (k *known) forget() {
	k.index, k.system, k.timeline, k.verified, k.seenWritable, k.lsn = -1, 0, 0, false, false, 0
	k.changed()
}

// sawWritable notes that the primary was seen out of recovery.
func (k *known) sawWritable() {
	k.trust()
	assign(k.counter, &k.seenWritable, true)
}

// trust takes the primary for verified although it wasn't seen writable.
func (k *known) trust() { assign(k.counter, &k.verified, true) }

// switchedTo takes an operator's word for the primary.
func (k *known) switchedTo(writable bool) {
	k.trust()
	assign(k.counter, &k.seenWritable, writable)
}

// identify takes over the identity that the primary shows, as far as it shows one.
func (k *known) identify(system uint64, timeline uint32) {
	if system != 0 {
		assign(k.counter, &k.system, system)
	}
	if timeline != 0 {
		assign(k.counter, &k.timeline, timeline)
	}
}

// note takes over the position and the synchronous standbys that the primary shows.
func (k *known) note(o Observation, now time.Duration) {
	if o.WriteLSN != 0 {
		k.lsnAt = now
		assign(k.counter, &k.lsn, o.WriteLSN)
	}
	k.sync = append([]string(nil), o.SyncStandbys...)
}

// age is how old the last LSN of the primary is.
func (k *known) age(now time.Duration) time.Duration {
	if k.lsn == 0 {
		return 0
	}
	return now - k.lsnAt
}
