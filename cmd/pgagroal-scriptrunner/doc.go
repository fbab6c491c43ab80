// Pgagroal-scriptrunner runs the failover scripts of pgagroal as a service of
// its own, so that they can be run by another user than pgagroal's. pgagroal
// finds it by scriptrunner_socket; without that setting pgagroal starts a runner
// itself and this program isn't needed.
package main
