// Package transaction tests the transaction pipeline: statements, session state, the queue for
// backends, and widely used drivers.
package transaction
