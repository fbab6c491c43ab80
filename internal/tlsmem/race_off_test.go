//go:build !race

package tlsmem

const raceDetector = false
