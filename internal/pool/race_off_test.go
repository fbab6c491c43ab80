//go:build !race

package pool

const defaultFairSteps = 1_000_000
