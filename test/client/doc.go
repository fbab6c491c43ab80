// Package client tests what a session sees: every byte, large results, cancels, and nothing of
// clients that were killed before it.
package client
