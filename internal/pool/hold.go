package pool

// Hold says which pools get no lease, because their clients are paused; nil for none. Requests of
// these pools wait, and nothing is opened ahead for them. Leases that they have stay.
func (l *Ledger) Hold(holds func(Key) bool) []Effect {
	l.holds = holds
	for _, w := range l.order {
		for _, q := range byArrival(w) {
			if q.parked != (holds != nil && holds(q.key)) {
				l.dequeue(q)
				l.enqueue(q)
			}
		}
	}
	return l.settle()
}
