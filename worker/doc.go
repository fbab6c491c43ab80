// Package worker is the process that serves clients. Only workers read what clients send;
// besides them only the prober reads what servers send.
//
// The supervisor starts the workers before the first client, through /proc/self/exe.
// Everything that a worker needs to know arrives on its link, descriptor 3. A worker owns
// the clients that the supervisor handed to it and the backends for which it holds
// leases, and nothing else. It ends when it is told to drain, or within a second after
// the end of the link, which means that the supervisor is dead.
//
// The life of a client: the supervisor hands over an accepted socket. A coroutine of
// the event loop (dialogue.go), which reads like blocking code, encrypts the connection
// if the client asks for it (secure.go), takes the start-up packet (startup.go), matches it
// against pgagroal_hba.conf (peer.go asks the supervisor for host names) and authenticates
// the client (admission.go, with auth_query authquery.go), or refuses it (refusal.go). If only the server can authenticate the client, a goroutine passes
// the login through (passthrough.go). Then the client is a session (session.go) that
// waits for a backend: an idle one from the shelf, or a new one that a goroutine opens
// once the supervisor has granted a lease (leases.go, backend.go). pool.Shelf decides who
// is served first, which leases to ask for and which backends to keep; pools.go carries
// that out. The session then gets the backend (attach.go). Its conversation (package
// relay) finds the message boundaries and says what to send; the session decides what to
// do when one side ends. When the client leaves, its backend is brought to a known state
// and shelved, or closed and its lease returned (release.go). When the supervisor fences
// an epoch, all its backends are aborted, whatever they are doing (fence.go), and the
// sessions tell their clients whether the outcome of a transaction is unknown (lost.go).
//
// What may not live here: limits (the supervisor's Ledger counts), the order of waiting
// clients, the choice of a server, reading configuration files, name resolution,
// running programs.
package worker
