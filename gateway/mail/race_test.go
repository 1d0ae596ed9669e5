//go:build race

package mail

// raceFactor is how much slower the race detector makes us.
const raceFactor = 10
