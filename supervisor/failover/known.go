package failover

import (
	"slices"
	"time"
)

// counter counts the changes that may lead to another decision. Step evaluates again until a round makes no such change.
// So each writer counts every change that it makes, and only real changes: otherwise Step would stop too early, or never.
type counter struct{ changes uint64 }

func (c *counter) changed() { c.changes++ }

// assign writes a value, and counts a change if the value differs.
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
	since    time.Duration // when it replaced another primary, 0 if not in this process
	verified bool          // the server was seen out of recovery since it became the primary
	// seenWritable: this process, or the one that wrote the record, has seen the server writable. Otherwise no script
	// runs for it.
	seenWritable bool
	// damaged: an earlier record could not be read, and nobody has said yet which server is the primary.
	damaged bool
	lsn     uint64 // last LSN seen on it
	lsnAt   time.Duration
	sync    []string // its synchronous standbys when last seen
}

// openOn makes a server the primary without a failover. If it is the recorded one, what was seen of it stays.
func (k *known) openOn(i int, verified bool) {
	assign(k.counter, &k.seenWritable, verified || (i == k.index && k.seenWritable))
	assign(k.counter, &k.index, i)
	assign(k.counter, &k.verified, true)
	k.distrust(false)
}

// replace records another server. Synchronous standbys, LSN and their time belonged to the previous one.
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

// distrust records whether a person has to name the primary because the record was damaged.
func (k *known) distrust(damaged bool) { assign(k.counter, &k.damaged, damaged) }

// forget drops the recorded primary.
func (k *known) forget() {
	k.index, k.system, k.timeline, k.verified, k.seenWritable, k.lsn = -1, 0, 0, false, false, 0
	k.changed()
}

// sawWritable records that the primary was seen out of recovery.
func (k *known) sawWritable() {
	k.trust()
	assign(k.counter, &k.seenWritable, true)
}

// trust counts the primary as verified although it wasn't seen writable.
func (k *known) trust() { assign(k.counter, &k.verified, true) }

// switchedTo records that an operator has named the primary, and whether it was seen writable.
func (k *known) switchedTo(writable bool) {
	k.trust()
	assign(k.counter, &k.seenWritable, writable)
}

// identify records system identifier and timeline of the primary, as far as it shows them.
func (k *known) identify(system uint64, timeline uint32) {
	if system != 0 {
		assign(k.counter, &k.system, system)
	}
	if timeline != 0 {
		assign(k.counter, &k.timeline, timeline)
	}
}

// note records the LSN and the synchronous standbys that the primary shows.
func (k *known) note(o Observation, now time.Duration) {
	if o.WriteLSN != 0 {
		k.lsnAt = now
		assign(k.counter, &k.lsn, o.WriteLSN)
	}
	k.sync = append([]string(nil), o.SyncStandbys...)
}

// renamed gives a synchronous standby another name; "" says that the server of this name is gone.
func (k *known) renamed(was, is string) {
	i := slices.Index(k.sync, was)
	switch {
	case i < 0:
	case is == "":
		k.sync = slices.Delete(k.sync, i, i+1)
	default:
		k.sync[i] = is
	}
}

// age returns how old the last LSN of the primary is, 0 without an LSN.
func (k *known) age(now time.Duration) time.Duration {
	if k.lsn == 0 {
		return 0
	}
	return now - k.lsnAt
}
