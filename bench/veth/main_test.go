package main

import (
	"os"
	"testing"
)

// Tests start contenders as the command does: as this binary again.
func TestMain(m *testing.M) {
	contenderMain()
	os.Exit(m.Run())
}

func TestTheCommandLineIsRefusedWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no rounds":               {[]string{"-rounds", "0"}, "-rounds 0: want at least 1"},
		"no window":               {[]string{"-window", "0"}, "-window must be positive, and -warmup not negative"},
		"a frame too short":       {[]string{"-size", "59"}, "-size 59: want 60 to 1514 bytes"},
		"a frame too long":        {[]string{"-size", "1515"}, "-size 1515: want 60 to 1514 bytes"},
		"a rate of nothing":       {[]string{"-rate", "0"}, "-rate 0: want 1 to 10000000 frames per second"},
		"an unknown contender":    {[]string{"-contenders", "xdpipe,other"}, `no contender "other"; there are [xdpipe xdpipe-sleep asavie asavie-large]`},
		"an unknown load":         {[]string{"-loads", "some"}, `no load "some"; there are overload and paced`},
		"one CPU for both":        {[]string{"-fwd-cpu", "0"}, "generator and forwarder are both on CPU 0; each needs one of its own"},
		"an argument too many":    {[]string{"more"}, `unexpected argument "more"; see -help`},
		"a contender named twice": {[]string{"-contenders", "asavie,asavie"}, "contender asavie is named twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseSettings(c.args)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestTheFirstContenderNamedIsTheOneComparedWithTheOthers(t *testing.T) {
	s, err := parseSettings([]string{"-contenders", "asavie,xdpipe", "-loads", "paced", "-rate", "250000"})
	if err != nil {
		t.Skip(err) // fewer than two CPUs
	}
	if s.contenders[0].name != "asavie" || len(s.contenders) != 2 {
		t.Errorf("contenders are %v", s.contenders)
	}
	if len(s.loads) != 1 || s.loads[0].gap().Microseconds() != 4 {
		t.Errorf("loads are %v", s.loads)
	}
}

func TestEveryRoundHasEveryContenderAndNoneIsAlwaysFirst(t *testing.T) {
	s := settings{contenders: contenders}
	first := map[string]int{}
	for round := range 2 * len(contenders) {
		turns := s.turns(round)
		first[turns[0].name]++
		seen := map[string]bool{}
		for _, c := range turns {
			seen[c.name] = true
		}
		if len(turns) != len(contenders) || len(seen) != len(contenders) {
			t.Errorf("round %d has %d contenders in %d turns", round, len(seen), len(turns))
		}
	}
	for _, c := range contenders {
		if first[c.name] != 2 {
			t.Errorf("%s is first in %d of %d rounds", c.name, first[c.name], 2*len(contenders))
		}
	}
}
