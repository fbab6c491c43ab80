// Package worker is the only process that reads what clients and servers send.
//
// The supervisor starts a worker, before the first client, through /proc/self/exe. The
// link is descriptor 3, and everything that a worker needs to know arrives there. A
// worker owns the clients that it was handed and the backends for which it holds
// leases, and nothing else. It ends when it is told to drain, or within a second after
// the end of the link, which means that the supervisor is dead.
//
// The life of a client: the supervisor hands over an accepted socket. A coroutine of
// the event loop (dialogue.go), which reads like blocking code, takes the start-up
// packet, matches it against pgagroal_hba.conf (peer.go asks the supervisor for names
// of hosts) and authenticates the client
// (startup.go). Then the client is a session (session.go) that waits for a backend: an
// idle one from the shelf, or a new one that a goroutine opens once the supervisor has
// granted a lease (leases.go, backend.go). pool.Shelf decides who is served first,
// which leases to ask for and which backends to keep; pools.go carries that out. The
// session then gets the backend (attach.go). Its conversation (package relay) says what
// to send and finds the message boundaries; the session decides what to do when one
// side ends. When the client leaves, its backend is brought to a known state and
// shelved, or closed and its lease returned (release.go). When the supervisor fences an
// epoch, every backend of it is aborted, whatever it is doing, and the sessions are
// told the truth about their transactions (fence.go).
//
// What may not live here: limits (the supervisor's Ledger counts), the order of waiting
// clients, the choice of a server, reading configuration files, name resolution,
// running programs.
package worker
