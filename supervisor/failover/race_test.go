//go:build race

package failover

// raceDetector makes every schedule ten times slower.
const raceDetector = true
