//go:build race

package tlsmem

const raceDetector = true
