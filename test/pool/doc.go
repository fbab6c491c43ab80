// Package pool is the harness of the black-box tests. Pool is pgagroal in a
// directory, with a configuration and a port of its own; Scene is a pool with
// failover scripts that note their runs, in front of a cluster. Main builds the
// programs, once for all packages that run side by side.
//
//	c := pgtest.New(t, pgtest.Options{Standbys: 1})
//	s := pool.Play(t, c, pool.Plan{})
//	s.Opened("n1")
//
// A pool ends with its test, which fails if a race was found or a process of the
// pool lives on.
package pool
