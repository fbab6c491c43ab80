// Package control is what pgagroal and pgagroal-cli have to agree on: the path of
// the control socket, the commands with their arguments and time limits
// (Commands), the document that answers them with its responses, and the numbers
// of failures and exit codes. It does nothing itself: package supervisor/control
// answers, cmd/pgagroal-cli asks.
//
// Header, Request, Response and Outcome have pgagroal's fields under pgagroal's
// names. New ones may be added, none is ever taken away, so that a script that
// reads an answer reads those of later versions too.
package control
