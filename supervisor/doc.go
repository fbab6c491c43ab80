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
// their handlers. What never runs on the loop is in packages of its own: listen
// (sockets, and the goroutines that accept), statedir (files), control (pgagroal-cli).
// The package failover, the machine that decides, is pure.
//
// The prober is a child like a worker (prober.go): throttled, and killed when it doesn't
// answer in time. Its end says nothing about a server: the looks under way count as not
// made.
//
// Start: passed sockets, check of the configuration, TCP sockets, with worker_user
// the starter (internal/proc), privileges given up, lock of state_dir, pid file, Unix sockets, workers, probes. No client
// is accepted before the servers are known and a worker is ready.
//
// End: clients and backends first (Drain, then SIGKILL), then a hook that still
// runs is waited for, then the runner, then the prober; then sockets and pid file are
// removed, then the starter. If
// the supervisor is killed, its children see the end of their links and end
// within a second; they hold the lock of state_dir until then.
//
// A panic is a bug of ours. A panic in work that runs elsewhere, or in a command of the
// control socket, becomes the error of that one operation, and the stack is logged. A
// panic in the loop ends the process: it kills workers and prober first, removes sockets
// and pid file, and the service manager starts pgagroal again.
package supervisor
