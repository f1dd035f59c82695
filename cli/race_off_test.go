//go:build !race

package cli

// underRace is whether the race detector slows everything down.
const underRace = false
