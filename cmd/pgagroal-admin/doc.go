// Command pgagroal-admin keeps the master key and the credential files of pgagroal, edits
// its main configuration file, looks a whole set-up over (package checkup), and makes a configuration from one of
// PgBouncer (package pgbouncer).
//
// Only an operator starts it, and it talks to no daemon, which follows the credential files by itself and
// reads the configuration at a reload. C pgagroal from 2.1 on reads what it writes, and it
// reads what C pgagroal writes. It writes a new file and renames it, so a reader never sees
// half a file.
package main
