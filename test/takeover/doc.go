// Package takeover shows what an attacker can do with a process of pgagroal that he
// has taken over. rig_test.go makes a live process execute system calls by ptrace;
// the tests make each attempt in a worker, and in a process that isn't confined to
// prove that the rig sees success. pgagroal-privsep(7) states the results.
package takeover
