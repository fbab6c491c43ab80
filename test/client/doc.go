// Package client tests what a session receives: every byte of its own, large results and
// cancels included, and nothing of clients that were killed before it.
package client
