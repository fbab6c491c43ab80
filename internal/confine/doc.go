// Package confine takes away from a process everything that it no longer needs after
// its set-up, so that an attacker who takes over the process can't use it either.
//
//   - confine.go: Policy says what a process keeps; Apply takes away the rest and
//     reports what is in force.
//   - landlock.go: files, TCP ports, signals and Unix sockets (Landlock).
//   - seccomp.go: an allow-list of system calls as a filter for the kernel;
//     syscalls_amd64.go is the list.
//
// A process calls Apply after its set-up, when it has its link, its event loop and its
// time zone, but before it reads a byte from a client or server. What Apply takes away
// never comes back: a server on another TCP port needs new processes.
//
// Linux only. It imports none of our packages.
package confine
