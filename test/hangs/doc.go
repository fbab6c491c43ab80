// Package hangs stops each process of pgagroal in each phase of a failover, for 1, 10
// and 100 seconds, as a disk or a file system that hangs would: one row each of
// the table in doc/RELIABILITY.md.
//
// Whatever hangs, no script may run twice or late, and no two servers may be
// writable. A few rows are tested always; with -all or -write all of them are, which
// takes half an hour, and -write puts what was seen into the page.
package hangs
