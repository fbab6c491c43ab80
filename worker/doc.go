// Package worker is the only process that reads what clients and servers send.
//
// The supervisor starts it, before the first client, through /proc/self/exe; its
// link is descriptor 3, and everything it needs to know arrives there. It owns
// the clients it was handed, the backends it holds a lease for, and nothing
// else. It ends when it is told to drain, or within a second after the link has
// ended, which means that the supervisor is dead.
//
// The life of a client: the supervisor hands over an accepted socket, and a
// coroutine of the event loop (dialogue.go), which reads like blocking code, takes
// the start-up packet, matches it against pgagroal_hba.conf and authenticates it
// (startup.go). Then the client is a session (session.go) that waits for a backend:
// an idle one from the shelf, or a new one that a goroutine opens once the
// supervisor has granted a lease (leases.go, backend.go). Who is served first, what is
// asked for and which backends are kept is for pool.Shelf to say; pools.go carries it
// out. Attached to each
// other (attach.go), the two are a session: its conversation (package relay) says what
// to send and finds the message boundaries, and the session is asked what to
// do when one side ends. When the client leaves, its backend is brought to a
// known state and shelved, or closed and its lease returned (release.go). When
// the supervisor fences an epoch, every backend of it is aborted, whatever it is
// doing, and the sessions are told the truth about their transaction (fence.go).
//
// What may not live here: limits (the supervisor's ledger counts), the order of those who wait, the choice of
// a server, the configuration files, name resolution, running anything.
package worker
