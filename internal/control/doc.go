// Package control is what pgagroal and pgagroal-cli share: the path of the control
// socket, the commands with their arguments and time limits (Commands), the documents
// with the responses, and the numbers of failures and exit codes. It does nothing
// itself: package supervisor/control answers commands, cmd/pgagroal-cli sends them.
//
// Header, Request, Response and Outcome have pgagroal's fields under pgagroal's names.
// New fields may be added, none is ever removed, so that a script can also read the
// answers of later versions.
package control
