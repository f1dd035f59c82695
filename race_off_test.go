//go:build !race

package xdpipe_test

// underRace is whether the race detector is on.
const underRace = false
