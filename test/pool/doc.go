// Package pool is the harness of the black-box tests. Pool is a pgagroal in a
// directory, with its own configuration and port. Scene is a pool in front of a
// cluster, with failover scripts that record their runs. Main builds the programs, once
// for all packages that run side by side.
//
//	c := pgtest.New(t, pgtest.Options{Standbys: 1})
//	s := pool.Play(t, c, pool.Plan{})
//	s.Opened("n1")
//
// A pool ends with its test, which fails if a race was found or if a process of the
// pool is still alive.
package pool
