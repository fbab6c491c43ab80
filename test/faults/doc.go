// Package faults tests failover under faults of the network and of hosts: a
// primary, two standbys and pgagroal, each in a network namespace of its own, with
// clients that write all the time.
//
//	net_test.go      the bridge, its hosts, and what is done to their packets
//	hook_test.go     scripts that note when they ran
//	load_test.go     clients: what was acknowledged, what they were told
//	scene_test.go    all of it together, and the questions asked of it
//	matrix_test.go   one row a fault: the decision, and what it cost
//	modes_test.go    the same with failover_fence_script and failover_mode
//	report_test.go   the table of doc/FAILOVER.md, which -write replaces
//	calm_test.go     what must never start a script, again and again
//	open_test.go     an old primary that lives on and is written to
//
// Decisions are tested always, with short times; timings never are. With -write the
// default times hold, and what was seen goes into doc/FAILOVER.md. The tests need root,
// iproute2 and nftables; without them they are skipped with a message.
package faults
