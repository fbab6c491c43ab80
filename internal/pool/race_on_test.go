//go:build race

package pool

const defaultFairSteps = 100_000
