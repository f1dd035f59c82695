package pipeline

import (
	"fmt"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/umem"
)

// parsing does what the stage parse does, idle nothing.
type (
	parsing struct{}
	idling  struct{}
)

func (parsing) Process(b *Batch) { b.Parse() }
func (idling) Process(*Batch)    {}

// BenchmarkRuntimeView is what seeing inside costs for each packet: the counters of a
// stage and the time of one call in timeEvery. Both ways take turns in one run; the
// metrics are nanoseconds for a packet, of a stage called bare and by its node, each
// at its best, and the difference.
func BenchmarkRuntimeView(b *testing.B) {
	for name, stage := range map[string]Stage{"parse": parsing{}, "empty": idling{}} {
		for _, size := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, size), func(b *testing.B) { benchView(b, stage, size) })
		}
	}
}

func benchView(b *testing.B, stage Stage, size int) {
	mem, err := umem.New(umem.Options{Frames: 1024, Pages: umem.Pages4K})
	if err != nil {
		b.Fatal(err)
	}
	defer mem.Close()
	w := &worker{cache: mem.NewCache(0), round: round{read: clock}}
	batch := newBatch(w.cache, size, &segmentTable{mem: mem}, &w.round)
	for range size {
		clear(batch.Alloc(64))
	}
	n := &node{stage: stage, name: "p/1:x", drops: make([]uint64, firstStageReason)}
	const calls = 256 // so many that the clock around them costs nothing
	bare, node := time.Hour, time.Hour
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range calls {
			stage.Process(batch)
		}
		half := time.Now()
		for range calls {
			n.process(w, batch)
		}
		bare, node = min(bare, half.Sub(start)), min(node, time.Since(half))
	}
	packets := calls * float64(size)
	b.ReportMetric(float64(bare)/packets, "bare-ns/packet")
	b.ReportMetric(float64(node)/packets, "node-ns/packet")
	b.ReportMetric(float64(node-bare)/packets, "view-ns/packet")
	batch.release(0)
	w.cache.Close()
}
