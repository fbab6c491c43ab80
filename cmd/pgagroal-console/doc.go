// Command pgagroal-console serves the metrics of pgagroal. pgagroal starts it, and nobody
// else: it has a link to the supervisor on descriptor 3.
package main
