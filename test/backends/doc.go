// Package backends tests connections to the server: who reuses them, how many there may be, how
// they are reset, and how they move between workers.
package backends
