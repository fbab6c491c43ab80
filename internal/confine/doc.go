// Package confine takes from a process everything that it no longer needs after its
// set-up, so that an attacker who takes the process over can't use it either.
//
//   - confine.go: Policy says what a process keeps; Apply does the rest and
//     reports what is in force.
//   - landlock.go: files, TCP ports, signals and Unix sockets (Landlock).
//   - seccomp.go: an allow-list of system calls as a filter for the kernel;
//     syscalls_amd64.go is the list.
//
// Apply is for a process that has done its set-up: it has its link, its event loop and
// its time zone, and has read no byte from a client or server. Nothing that Apply takes
// ever comes back: a server on another TCP port needs new processes.
//
// Linux only. It imports none of our packages.
package confine
