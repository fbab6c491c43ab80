// Package listen accepts clients outside the supervisor's loop. It has the listening sockets, which
// are made before the loop starts or by a reload, and one goroutine for each, which hands every client
// to the loop.
//
//   - sockets.go, addresses.go, unix.go, options.go: the sockets, passed by the service manager or made here, one for each
//     address of host.
//   - change.go: the two steps of a reload.
//   - gate.go: how the loop stops and starts the goroutines. A closed gate leaves clients in the kernel's backlog.
//     A gate that is shut has closed the sockets.
//   - accept.go: the goroutine, and an accept that doesn't use Go's poller for the client.
//   - refuse.go: what the loop may do with a client that no worker has: refuse it, or see that it is gone. Neither
//     blocks.
package listen
