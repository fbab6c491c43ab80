// Package firsthour plays doc/GETTING-STARTED.md by its text: it takes the commands
// from the document, runs them in a root of their own as one who pastes them, and
// compares what they print with what the document promises. Then it makes each mistake
// of the document's table and looks for the words that the table promises. README.md and
// doc/MIGRATION.md and doc/CONTRIBUTING.md are typed line by line.
//
//	document_test.go  the document: its blocks, its promises, its table
//	machine_test.go   a private machine: mounts, processes, network, and one shell on it
//	hour_test.go      the hour
//	mistakes_test.go  how each mistake is made, and mended
//	lines_test.go     every command line of these, and who types it
//	bare_test.go      a Debian with nothing in it (build tag bare: make test-documents)
//	readme_test.go    these on it
//	testdata          stand-ins for systemctl and journalctl, and for sudo where there is none
//
// The machine is the one that the test runs on, with empty directories where pgagroal and
// PostgreSQL put things. It takes root, and a system that lets root make namespaces and
// mount; without that the test is skipped with a message. No systemd runs on it: the stand-in of
// systemctl does what the installed unit files say, and test/systemd has what systemd makes of them.
package firsthour
