//go:build !race

package pool

// RaceEnabled says whether the tests, and so the programs, have the race detector.
const RaceEnabled = false
