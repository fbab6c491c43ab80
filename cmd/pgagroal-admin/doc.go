// Command pgagroal-admin keeps the master key and the credential files of pgagroal.
//
// Only an operator starts it, and it talks to no daemon: a change of a file takes
// effect with the daemon's next reload. Its files are those of pgagroal 2.1 and
// later, in both directions. It writes a new file and renames it, so a reader never
// sees half a file.
package main
