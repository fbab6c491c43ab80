package pool

import (
	"fmt"
	"time"
)

// Key names a pool: backends with the same key are interchangeable. Params are
// the untracked start-up parameters in canonical form.
type Key struct {
	Database, User, Params string
}

// Rule is one limit of pgagroal_databases.conf: at most Max leases at a time in all
// pools to which the rule applies. For the pool Key backends are opened ahead of clients, so
// that the rule has Initial leases on each new primary, and Min afterwards.
type Rule struct {
	Max          int
	Key          Key
	Initial, Min int
}

// NoRule is the rule index of a request to which no rule applies.
const NoRule = -1

// Effect is an action for the caller of the Ledger: one of Grant, Ahead, Move, Refuse,
// Reclaim and ReclaimCancel.
type Effect interface {
	// Target returns the index of the worker that must get it.
	Target() int
}

// Grant gives a worker the lease that it has asked for: the permission for one backend on
// Server, which belongs to Epoch.
type Grant struct {
	Worker  int
	Request uint64
	Lease   uint64
	Server  int
	Epoch   uint64
}

// Move gives a worker a backend that another worker has handed over, with a new lease.
// Request is the request that it answers. Back says that the backend returns to its own
// worker, because no client waits for it any more; then Request is 0.
type Move struct {
	Worker  int
	Request uint64
	Lease   uint64
	Back    bool
}

// Refuse refuses a request for good.
type Refuse struct {
	Worker  int
	Request uint64
	Reason  Reason
}

// Reclaim asks a worker to give back one of Leases, or any lease if Leases is nil. Key
// is the pool of the request that waits for it. ID is unique over all workers. Own says
// that the request comes from the same worker, which gains nothing by giving up a
// backend of the same pool. Since is when the request's client began to wait. Size is
// the limit of the gate that needs a lease.
type Reclaim struct {
	ID     uint64
	Worker int
	Key    Key
	Leases []uint64
	Own    bool
	Since  time.Duration
	Size   int
}

// ReclaimCancel withdraws a Reclaim from the worker that got it.
type ReclaimCancel struct {
	ID     uint64
	Worker int
}

// Target returns the worker that gets the lease.
func (e Grant) Target() int { return e.Worker }

// Target returns the worker that gets the backend.
func (e Move) Target() int { return e.Worker }

// Target returns the worker that asked.
func (e Refuse) Target() int { return e.Worker }

// Target returns the worker that holds the leases.
func (e Reclaim) Target() int { return e.Worker }

// Target returns the worker that has the Reclaim.
func (e ReclaimCancel) Target() int { return e.Worker }

// Reason says why a request is refused.
type Reason uint8

// The reasons. ReasonNoSuchRule and ReasonDuplicate come from a bug of the caller or
// the worker, all others from the configuration.
const (
	// ReasonRuleClosed: the rule allows no backend at all.
	ReasonRuleClosed Reason = iota + 1
	// ReasonPoolClosed: max_connections allows no backend at all.
	ReasonPoolClosed
	// ReasonNoSuchRule: the rule index is not one of the rules.
	ReasonNoSuchRule
	// ReasonDuplicate: a request of the worker with that id is waiting already.
	ReasonDuplicate
)

var reasons = [...]string{
	ReasonRuleClosed: "the limit of this database and user is 0",
	ReasonPoolClosed: "max_connections is 0",
	ReasonNoSuchRule: "no such rule",
	ReasonDuplicate:  "request id is in use",
}

func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r] != "" {
		return reasons[r]
	}
	return "unknown reason"
}

// CancelKey is the secret part of a backend's cancel key. Printing it doesn't show it.
type CancelKey string

// Format keeps every verb of fmt from printing the key.
func (CancelKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// MarshalJSON keeps the key out of JSON.
func (CancelKey) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Reveal returns the key itself.
func (k CancelKey) Reveal() string { return string(k) }

// Orphan is a lease whose worker is gone. It counts against the limits until
// Ledger.OrphanGone. PID and Cancel are zero if the worker had not reported a backend
// yet; then there may or may not be one on the server.
type Orphan struct {
	Lease  uint64
	Key    Key
	Server int
	Epoch  uint64
	PID    uint32
	Cancel CancelKey
}

// Format prints what identifies the orphan. Without it, fmt would print Cancel in the clear
// for a pointer to an Orphan inside another value, because it calls no methods there.
func (o Orphan) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "lease %d (server %d, epoch %d, process %d)", o.Lease, o.Server, o.Epoch, o.PID)
}

// Lease is what the Ledger knows about one lease. Worker is -1 for an orphan. PID is 0
// until the worker has reported the backend.
type Lease struct {
	ID     uint64
	Worker int
	Key    Key
	Rule   int
	Server int
	Epoch  uint64
	PID    uint32
	Cancel CancelKey
	// Unproven says that the server hasn't let the client in yet, whom only the server can authenticate.
	Unproven bool
}

// Format prints what identifies the lease. See Orphan.Format.
func (l Lease) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "lease %d of worker %d (server %d, epoch %d, process %d)", l.ID, l.Worker, l.Server, l.Epoch, l.PID)
}

// Counts is a snapshot of the Ledger for status and metrics, in leases unless
// said otherwise.
type Counts struct {
	Max      int
	Total    int
	Orphans  int
	Waiting  int // requests
	Reclaims int // leases that are being reclaimed
	Unproven int // leases of logins that have proven nothing
	Rules    []RuleCount
	Workers  map[int]int
}

// RuleCount is the use of one rule: leases, including orphans, and waiting requests.
type RuleCount struct {
	Max, Used, Waiting int
}

// Holder is one pool and how many leases each worker has in it; worker -1 stands
// for orphans.
type Holder struct {
	Key     Key
	Total   int
	Workers map[int]int
}
