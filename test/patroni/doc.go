// Package patroni runs pgagroal with failover_mode = follow before servers that a real Patroni, with a real etcd, promotes
// and demotes. It has the build tag patroni; make test-patroni runs it.
package patroni
