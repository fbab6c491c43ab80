// Package primary tests which server is the primary when none has just died: at the start, in
// mode follow, after a failover, and when servers return.
package primary
