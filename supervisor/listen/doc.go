// Package listen accepts clients outside the supervisor's loop. It has the listening sockets, made
// before the loop starts and closed after it has ended, and one goroutine for each, which hands
// every client to the loop.
//
//   - sockets.go, addresses.go, unix.go, options.go: the sockets, passed by the service manager or made here, one for each
//     address of host.
//   - gate.go: the loop's only word to the goroutines. A closed gate leaves clients in the kernel's backlog.
//   - accept.go: the goroutine, and an accept that stays out of Go's poller.
package listen
