// Command pgagroal is the connection pool: the supervisor, which the service
// manager or a person starts, and the children that it starts itself from the
// same binary. A child is told so by its environment and a link on descriptor 3,
// never by a flag.
package main
