package main

import (
	"slices"
	"testing"
)

func TestTheSpreadOfRunsIsMedianMinAndMax(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   spread
	}{
		"none":           {nil, spread{}},
		"one":            {[]float64{3}, spread{3, 3, 3, 1}},
		"an odd number":  {[]float64{9, 1, 5}, spread{5, 1, 9, 3}},
		"an even number": {[]float64{4, 1, 9, 2}, spread{3, 1, 9, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := spreadOf(c.values); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRatiosAreTakenRoundByRoundAndLeaveOutWhatIsZero(t *testing.T) {
	got := ratios([]float64{10, 20, 30}, []float64{5, 0, 10})
	if !slices.Equal(got, []float64{2, 3}) {
		t.Errorf("got %v, want [2 3]", got)
	}
}
