package pool

// Ledger is the only place where leases are counted. It belongs to one
// goroutine. The zero Ledger is not usable.
type Ledger struct{}

// NewLedger returns a Ledger that grants nothing until SetTarget opens it.
func NewLedger(max int, rules []Rule) *Ledger { return &Ledger{} }

// SetTarget says where backends are opened from now on and with which epoch
// they are stamped. While open is false nothing is granted and requests queue.
func (l *Ledger) SetTarget(server int, epoch uint64, open bool) []Effect { return nil }

// Request asks for a lease. id is the worker's; rule is the index of the rule
// that applies, NoRule for none.
func (l *Ledger) Request(worker int, id uint64, key Key, rule int) []Effect { return nil }

// Abandon withdraws a request. One that is unknown has been granted or refused
// already: the worker returns the lease when the grant reaches it.
func (l *Ledger) Abandon(worker int, id uint64) []Effect { return nil }

// Opened records the backend behind a lease. The error says that the worker
// doesn't hold the lease, which is a bug of the worker.
func (l *Ledger) Opened(worker int, lease uint64, pid uint32, key CancelKey) error { return nil }

// Return gives a lease back. The error says that the worker doesn't hold the
// lease, which is a bug of the worker.
func (l *Ledger) Return(worker int, lease uint64) ([]Effect, error) { return nil, nil }

// WorkerGone forgets a worker: its requests vanish, its leases become orphans.
func (l *Ledger) WorkerGone(worker int) ([]Orphan, []Effect) { return nil, nil }

// OrphanGone ends an orphan: its backend is gone from the server. Unknown ones
// are ignored.
func (l *Ledger) OrphanGone(lease uint64) []Effect { return nil }

// Resize puts other limits in force. remap gives the new rule index of what was
// counted under an old one; nil keeps the indices.
func (l *Ledger) Resize(max int, rules []Rule, remap func(key Key, rule int) int) []Effect {
	return nil
}

// Lease returns one lease.
func (l *Ledger) Lease(id uint64) (Lease, bool) { return Lease{}, false }

// UpTo returns the leases, orphans included, that were granted under an epoch up
// to and including the given one: those that a fence of it concerns.
func (l *Ledger) UpTo(epoch uint64) []Lease { return nil }

// Counts returns a snapshot. It walks over all leases.
func (l *Ledger) Counts() Counts { return Counts{} }

// Holders returns who holds the leases, the largest pool first. It walks over
// all leases.
func (l *Ledger) Holders() []Holder { return nil }
