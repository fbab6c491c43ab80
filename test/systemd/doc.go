// Package systemd boots a Debian and runs pgagroal there as its users do: from the .deb, under systemd, in front of a
// primary and two standbys that are services, too. All scenes play on one machine, in one order, as in the life of an
// installation.
//
//	boot_test.go      the machine: an overlay of this one's root that takes what is written, booted in a container
//	servers_test.go   the three servers, and the settings with which pgagroal fails over between them
//	service_test.go   the first start, sockets, reload, stop, crashes, watchdog
//	pools_test.go     metrics, console and management on sockets; the template
//	failover_test.go  the death of the primary, with the runner's unit and the example hooks
//	package_test.go   a newer version under load, an older one, credentials, removal
//
// It takes root, systemd as the first process of this machine's packages, and a minute or two, so it has a build tag and
// make test-systemd; make test leaves it out. Two of these machines can't run at the same time: they share the tree of
// control groups.
package systemd
