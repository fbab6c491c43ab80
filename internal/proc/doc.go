// Package proc is about processes: it starts children, gives up privileges and proves it,
// locks files, and finds and signals processes.
//
// A child is this very binary, executed again through /proc/self/exe, with its
// link on descriptor 3 and, when there is one, the lock of state_dir on
// descriptor 4. Besides these and standard input, output and error a child inherits
// nothing: Spawn passes a closed list of descriptors and environment variables.
//
// A Starter is a child that stays root, and starts workers and the prober under another
// user. proof.go lets the runner check that its peer is the supervisor.
//
// Linux only. It imports none of our packages.
package proc
