// Command pgagroal is the connection pool: the supervisor, which the service
// manager or a person starts, and its children, which it starts from the same
// binary. A child knows its role from its environment and a link on descriptor 3,
// never from a flag.
package main
