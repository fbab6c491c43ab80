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
// package of pgagroal. The caller of a method carries out the returned effects in their
// order.
//
// What a worker must do, and the Ledger relies on:
//
//   - It keeps the Reclaims it has, in the order in which they came, until it has
//     answered them or a ReclaimCancel names them. It ignores a ReclaimCancel of a
//     Reclaim that it has answered already: the two messages crossed.
//   - A Reclaim is sticky. When a backend that it names is idle, or at its next
//     boundary, the worker gives that lease back.
//   - Each lease that it gives back or hands over, for whatever reason, answers the first of its
//     Reclaims that names the lease, and no other.
//
// A reclaim is answered by a return, when the backend was closed and the lease comes
// back, or by a hand-over: the backend and its lease go to another waiting client of
// the same pool. For this the Reclaim carries the waiter's Key.
package pool
