// Package proc is about processes: how a child is started and knows that it is one, how
// privileges are given up and how that is proved, and which processes are alive.
//
// A child is this very binary, executed again through /proc/self/exe, with its
// link on descriptor 3 and, when there is one, the lock of state_dir on
// descriptor 4. Nothing else is inherited: Spawn passes a closed list of
// descriptors and environment variables.
//
// A Starter is a child that stays root, and starts workers under a user of their own.
//
// Linux only. It imports none of our packages.
package proc
