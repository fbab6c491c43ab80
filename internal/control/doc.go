// Package control is what pgagroal and pgagroal-cli share: the path of the control
// socket, the commands with their arguments and time limits (Commands), the documents
// with the responses, and the numbers of failures and exit codes. It only defines them:
// package supervisor/control answers commands, cmd/pgagroal-cli sends them.
//
// Header, Request, Response and Outcome have C pgagroal's fields under the same names.
// Fields may be added but never removed, so that scripts can read the answers of later
// versions.
package control
