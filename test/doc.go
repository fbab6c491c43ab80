// Package test is the black-box test suite: it builds the programs, starts them
// in front of real PostgreSQL clusters, speaks SQL to them, kills things and
// reads what an operator would read. One behaviour a test.
//
// harness_test.go starts pgagroal in a private directory and asks it questions;
// hooks_test.go makes scripts that note how they were called. What may not live
// here: tests that look into a package (they stand beside it), and waiting
// without a condition.
package test
