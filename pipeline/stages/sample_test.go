package stages

import (
	"math"
	"slices"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// teed returns the positions of the packets that have a further reference.
func teed(b *pipeline.Batch) (at []int) {
	mem := b.Cache().Memory()
	for i, d := range b.Descs() {
		for range mem.Refs(d.Addr) - 1 {
			at = append(at, i)
		}
	}
	return at
}

func TestSampleChoosesEachEveryThPacketOverBatches(t *testing.T) {
	for _, tc := range []struct{ every, batch int }{{1, 4}, {2, 4}, {3, 4}, {4, 4}, {5, 4}, {7, 3}, {100, 64}, {1, 1}, {3, 256}} {
		s := &Sample{Every: tc.every}
		ctx := provision(t, s, "sampled")
		seen, chosen := 0, 0
		for range 10 {
			b := newBatch(t, slices.Repeat([][]byte{udpPacket()}, tc.batch)...)
			s.Process(b)
			var want []int
			for i := range tc.batch {
				if seen++; seen%tc.every == 0 {
					want = append(want, i)
				}
			}
			if got := teed(b); !slices.Equal(got, want) {
				t.Fatalf("one in %d of packets to %d: chose %v, want %v", tc.every, seen, got, want)
			}
			chosen += len(want)
			for i := range b.Len() {
				if to, dropped, _ := b.Verdict(i); to != pipeline.Next || dropped {
					t.Fatalf("not all packets go on: %s", verdicts(ctx, b))
				}
			}
		}
		if v := s.Report(); v["packets"] != uint64(seen) || v["sampled"] != uint64(chosen) {
			t.Errorf("counted %v, want %d of %d", v, chosen, seen)
		}
	}
}

func TestSampleByChanceChoosesOneInEveryOnAverageAndFollowsNoRhythm(t *testing.T) {
	const every, packets = 20, 200_000
	s := &Sample{Every: every, Random: true}
	provision(t, s, "sampled")
	// Without references, which would pile up on the frames: the gaps themselves.
	samples, position := 0, 0
	var phases [every]int
	for position < packets {
		gap := s.gap()
		if gap < 1 {
			t.Fatalf("a gap of %d", gap)
		}
		position += gap
		samples++
		phases[position%every]++
	}
	// The number of samples has a standard deviation of about 97; that of each phase
	// of about 22. Six of them do not happen.
	if d := math.Abs(float64(samples) - packets/every); d > 6*97 {
		t.Errorf("%d samples of %d packets, want about %d", samples, packets, packets/every)
	}
	for phase, n := range phases {
		if d := math.Abs(float64(n) - packets/every/every); d > 6*22.5 {
			t.Errorf("%d samples at phase %d, want about %d", n, phase, packets/every/every)
		}
	}
}

func TestSampleRefusesToChooseOneInNone(t *testing.T) {
	for _, every := range []string{"0", "-1", "4294967297"} {
		_, err := pipeline.ParseQuick("stages", "sample every="+every)
		if err == nil || err.Error() != "stages:1:14: stage sample: option every: found "+every+", want 1 to 4294967296" {
			t.Errorf("every %s: %v", every, err)
		}
	}
}

func TestSampleDoesNotAllocate(t *testing.T) {
	s := &Sample{Every: 2, Random: true}
	provision(t, s, "sampled")
	noAllocationsTeeing(t, s)
}

func FuzzSample(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage { return &Sample{Every: 2, Random: true} })
}

func BenchmarkSample(b *testing.B) {
	for name, random := range map[string]bool{"each": false, "random": true} {
		b.Run(name, func(b *testing.B) {
			s := &Sample{Every: 100, Random: random}
			provision(b, s, "sampled")
			benchmarkTeeing(b, s)
		})
	}
}
