// Package test holds the black-box tests, a package a subject: they start the
// programs as they are built in front of real PostgreSQL clusters, speak SQL to
// them, kill things, and read what an operator would read. One behaviour a test.
//
//	pool         the harness: Pool is pgagroal in a private directory, Scene is a pool
//	             with failover scripts in front of a cluster
//
//	login        who is let in, by which method, and what comes before that
//	client       what a session sees: bytes, large results, cancels, what killed clients leave
//	transaction  the transaction pipeline: statements, state, queue, drivers
//	drivers      drivers of several languages over TLS, in each pipeline, through a failover
//	backends     reuse, limits, reset, hand-over between workers
//	timers       limits of time for statements, clients and idle backends; validation
//	failover     how a primary's death is seen, and what becomes of clients
//	primary      who is primary: at the start, after a failover, when servers return
//	operator     commands: shutdown, planned switches, orders, rehearsals, answers
//	metrics      what Prometheus and health checks see
//	hooks        the contract of the scripts
//	runner       runs of scripts while runner, service or supervisor die
//	takeover     what a worker can't do after somebody has taken it over
//	upgrade      another version takes the place of the running one
//	process      start, privileges, signals, death of workers, the service manager
//
//	firsthour    GETTING-STARTED, README and MIGRATION by their texts, and typical mistakes
//	patroni      before a real Patroni: make test-patroni
//	systemd      the .deb and its units on a booted machine: make test-systemd
//	faults       hosts in networks of their own that are cut off, frozen and killed
//	hangs        processes of pgagroal that are stopped in each phase of a failover
//	layout       who may import whom, how large things may grow
//	demo, bench  programs: make demo, make bench
//	regress      PostgreSQL's own tests: make regress
//
// A package is a process of its own under go test, with a time-out of its own, so
// a test that hangs hides no other subject. What two subjects need is in pool.
// What may not live here: tests that look into a package (they stand beside it),
// and waiting without a condition.
package test
