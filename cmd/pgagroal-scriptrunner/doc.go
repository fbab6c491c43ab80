// Pgagroal-scriptrunner runs the failover scripts of pgagroal as a separate
// service, so that they can run as another user than pgagroal. pgagroal finds it by
// scriptrunner_socket; without that setting pgagroal starts a runner itself, and
// this program isn't needed.
package main
