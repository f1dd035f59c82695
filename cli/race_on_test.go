//go:build race

package main

// underRace is whether the race detector slows everything down.
const underRace = true
