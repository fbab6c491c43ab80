// Package transaction tests the transaction pipeline: statements, state, the queue for backends, and
// the drivers that people use.
package transaction
