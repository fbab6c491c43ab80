// Command pgagroal-admin keeps the master key and the credential files of pgagroal.
//
// Only an operator starts it, and it talks to no daemon: a change of a file takes
// effect at the daemon's next start. C pgagroal from 2.1 on reads what it writes, and it
// reads what C pgagroal writes. It writes a new file and renames it, so a reader never sees
// half a file.
package main
