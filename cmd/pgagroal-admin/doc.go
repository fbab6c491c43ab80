// Command pgagroal-admin keeps the master key and the credential files of pgagroal.
//
// Nothing starts it but an operator, and it talks to no daemon: a change of a file takes effect
// with the daemon's next reload. Files are those of pgagroal 2.1 and later, in both directions.
// It writes a file beside the old one and renames it, so a reader never sees half a file.
package main
