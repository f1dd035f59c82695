package pipeline_test

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// benchNet is what 64 packets cost that go through stages, with what leaves taken.
func benchNet(b *testing.B, workers int, owners map[string][]int, stages string) {
	n := newNet(b, netConfig{workers: workers, owners: owners, noLedger: true, ring: 1024}, pipe(b, "p", "a", "b", stages))
	const batch = pipeline.DefaultBatch
	round := func() {
		if got := n.k["a"][0].Refill(batch, 64); got != batch {
			b.Fatalf("%d of %d packets arrived: %+v", got, batch, n.eng.Snapshot())
		}
		if got := n.round(); got < batch {
			b.Fatalf("%d packets in a round", got)
		}
		for _, kernels := range n.k {
			for _, k := range kernels {
				k.Drain(1024)
			}
		}
	}
	n.round()
	for range 100 {
		round()
	}
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
	if d := drops(n.eng.Snapshot()); len(d) != 0 {
		b.Fatalf("dropped %v", d)
	}
	n.settle()
	n.end()
}

// BenchmarkBranch: every packet goes by a branch, and back to the main chain.
func BenchmarkBranch(b *testing.B) {
	b.Run("none", func(b *testing.B) { benchNet(b, 1, nil, "test-empty ! test-empty ! test-empty") })
	b.Run("one", func(b *testing.B) { benchNet(b, 1, nil, "test-all out->x ! tail: test-empty; x: test-empty -> tail") })
}

// BenchmarkTee: every packet leaves twice.
func BenchmarkTee(b *testing.B) {
	b.Run("nobody writes", func(b *testing.B) { benchNet(b, 1, nil, "test-tee copy->c") })
	b.Run("one writes", func(b *testing.B) { benchNet(b, 1, nil, "test-tee copy->c ! test-write mark=1") })
}

// BenchmarkHandoff: every packet goes to another worker. Both work on one core, in
// turns: it is what the ring costs, and not what the way between two cores does.
func BenchmarkHandoff(b *testing.B) {
	b.Run("none", func(b *testing.B) { benchNet(b, 1, nil, "test-empty") })
	b.Run("one", func(b *testing.B) {
		benchNet(b, 2, map[string][]int{"a": {0}, "b": {1}, "c": {0}}, "test-hand to=1")
	})
}

func init() {
	pipeline.Register(pipeline.Module{Name: "test-all", New: func() pipeline.Stage { return &all{} },
		Outputs: []pipeline.OutputInfo{{Name: "out", Doc: "all packets"}}})
}

// all sends all packets to its output.
type all struct{ out pipeline.Output }

func (s *all) Provision(ctx *pipeline.Context) error { s.out, _ = ctx.Output("out"); return nil }

func (s *all) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		b.To(i, s.out)
	}
}
