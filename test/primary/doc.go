// Package primary tests which server becomes the primary without a death before it: at the
// start, in mode follow, after a failover, and when servers return.
package primary
