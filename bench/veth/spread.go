package main

import "slices"

// A spread is what several runs came to.
type spread struct {
	median, min, max float64
	runs             int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{median: (v[(n-1)/2] + v[n/2]) / 2, min: v[0], max: v[n-1], runs: n}
}

// ratios divides round by round: what disturbed one round disturbed both. Rounds
// in which the other has nothing are left out.
func ratios(ours, theirs []float64) []float64 {
	var r []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] != 0 {
			r = append(r, ours[i]/theirs[i])
		}
	}
	return r
}
