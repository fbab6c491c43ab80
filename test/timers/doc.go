// Package timers tests what pgagroal does after some time: to statements, to clients that stand
// still, and to idle connections to the server; and how long the queries of its own may take.
package timers
