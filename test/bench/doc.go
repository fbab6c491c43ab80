// Command bench measures pgagroal beside its peers, on one machine and in one run. It
// runs pgbench against PostgreSQL itself, against pgagroal in each pipeline and with
// each kind of event loop, against the distribution's PgBouncer and HAProxy, and
// against a relay that only forwards bytes. Optionally another PgBouncer, and another
// build of pgagroal, take part as well.
//
// Each case is measured in rounds. In each round every target has its turn, each time
// in another order, so that a disturbance of the machine affects all of them. A turn is
// a fresh pooler, a warm-up that isn't counted, the measurement and the pooler's end.
// The result is the median of the rounds, with the smallest and the greatest value.
//
// doc/PERFORMANCE.md says what is measured and how to repeat it; -write puts the
// tables there.
//
//	cases.go      what is measured: the table of cases and their targets
//	goals.go      the goals for the figures
//	rig.go        the PostgreSQL cluster, directories, pinning
//	machine.go    a description of the machine and the programs
//	pooler.go     a pooler's process; pgagroal.go, pgbouncer.go and haproxy.go configure it
//	relay.go      the bare relay: this program again, with only our event loops
//	pgbench.go    one run of pgbench, and what it says
//	tls.go        the cases with TLS: certificates, and the settings of everybody
//	arrivals.go   short clients: as many as can log in, and a fixed number a second
//	growth.go     clients and a server that cost almost nothing, to see what workers can do
//	watch.go      what it costs to be watched, and answers while a server is gone
//	idle.go       clients that connect and then do nothing
//	proc.go       processor time and memory of a tree of processes
//	run.go        rounds and turns
//	result.go     what was measured, medians, files of results
//	report.go     tables
//
// Everything works in the cluster's private directory and on ports of the loopback
// address. As root the servers and the poolers run as user postgres. Each pooler's
// working directory lies in the cluster's, so the cluster's guard ends it even
// when this program is killed.
package main
