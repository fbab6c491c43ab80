// Package failover tests how the death of a primary is seen, which standby is chosen, and what
// clients see meanwhile.
package failover
