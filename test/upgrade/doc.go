// Package upgrade tests the upgrade of a running pgagroal: another build takes its place in
// the same process, and clients notice nothing.
package upgrade
