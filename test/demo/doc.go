// Command demo shows what pgagroal is for: it starts a primary with two
// synchronous standbys, pgagroal before them and clients that write and read,
// kills the primary as the death of its host would, and tells what happens next
// from what pgagroal logs and from what the clients see.
//
//	demo        kill and tell; exit code 0 only if every promise was kept: that no
//	            client is disconnected is one of them
//	demo up     start servers and pool in ./demo-data and leave them running
//	demo down   stop those
//
// Everything lives in one private directory and on ports of the loopback address
// that the kernel chose. As root the servers, pgagroal and its scripts run as user
// postgres; otherwise they run as the user who starts the demo.
//
//	stage.go     the directory, the servers, the hooks and pgagroal
//	load.go      clients, and what each saw and when
//	timeline.go  lines of pgagroal's log, told with the time since the kill
//	report.go    the sums, and whether the promises were kept
//	keep.go      up and down
//
// The hooks are contrib/hooks/*.sh, behind wrappers that note their arguments.
package main
