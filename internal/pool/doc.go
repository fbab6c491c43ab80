// Package pool is the policy of the pools: which client may open a backend, and when.
//
// The Ledger belongs to the supervisor's loop. It counts leases (permissions
// for one backend to exist) against max_connections and the rules of
// pgagroal_databases.conf, queues the requests that it can't grant, and asks
// workers to give leases back while somebody waits.
//
// The Shelf belongs to a worker's loop. It has the worker's idle backends and the
// clients that wait there, asks the Ledger for leases (demand.go), and gives backends
// up for clients of other workers and of other pools (yield.go).
//
// Both are pure: they have no clock, no socket and no goroutine, and import no other
// package of pgagroal. The caller carries out the Ledger's effects and the Shelf's acts in
// their order.
//
// The Ledger relies on it that a worker follows these rules:
//
//   - It keeps its Reclaims, in the order in which they came, until it has answered
//     them or a ReclaimCancel names them. It ignores a ReclaimCancel for a Reclaim that
//     it has already answered, because the two messages crossed.
//   - It gives up a lease that a Reclaim names as soon as the backend is idle.
//   - Each lease that it returns or hands over, for whatever reason, answers the first
//     of its Reclaims that names the lease, and no other.
//
// A worker answers a Reclaim with a return, after it has closed the backend, or with a
// hand-over, if the client that waits uses the same pool: then the backend and its lease
// go to this client. For this the Reclaim has the Key of the waiting client's pool.
package pool
