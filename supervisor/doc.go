// Package supervisor is the process that accepts, spawns and decides.
//
// Started by the service manager or by a person, it starts the workers, the prober
// and, with failover = on, the script runner. It owns the listening sockets, the
// totals (leases), the states of the servers and the record in state_dir. It
// reads no byte of a client or a server, connects to neither, and executes nothing of the
// user's. What it wants to know of a server it asks the prober (looks.go).
//
// One goroutine, the loop in supervisor.go, owns every field. It makes no call that can
// block. What can block (starting a process, resolving a name, fsync) goes
// through the function elsewhere, which runs it in a goroutine and hands its result to
// the loop. Messages of children arrive through one channel; dispatch.go hands them to
// their handlers. What may block, and what runs in goroutines of its own, is in packages
// of its own: listen (sockets, and the goroutines that accept), statedir (files), control
// (pgagroal-cli). The package failover, the machine that decides, is pure.
//
// The prober is a child like a worker (prober.go): it is killed when it doesn't answer in
// time, and each further death delays its next start. Its death says nothing about a
// server, so the looks under way count as not made.
//
// Start, in this order: passed sockets, check of the configuration, TCP sockets, the
// starter if worker_user is set (internal/proc), privileges given up, lock of state_dir,
// pid file, Unix sockets, prober, workers, runner, probes. No client is accepted before
// the servers are known and a worker is ready.
//
// End: workers first (Drain, then SIGKILL), with their clients and backends. Then the
// supervisor waits for a hook that still runs. Then it ends the runner, then the prober.
// Then it removes sockets and pid file, and ends the starter. If the supervisor is killed,
// its children see the end of their links and end within a second; a runner ends after its
// script. They hold the lock of state_dir until then.
//
// A panic is a bug in pgagroal. A panic in work that runs elsewhere, or in a command of the
// control socket, becomes the error of that one operation, and the stack is logged. A
// panic in the loop ends the process: it kills workers and prober first, removes sockets
// and pid file, and the service manager starts pgagroal again.
package supervisor
