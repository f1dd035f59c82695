package stages

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// A teeing stage leaves references in its batch that only an engine takes out, so
// that a batch serves it once. What follows is for such stages.

// noAllocationsTeeing fails if Process allocates.
func noAllocationsTeeing(t *testing.T, stage pipeline.Stage) {
	t.Helper()
	t.Setenv("XDPIPE_VERIFY", "0") // the ledger may
	var batches []*pipeline.Batch
	for range 101 { // one for the call that AllocsPerRun makes first
		batches = append(batches, newBatch(t, udpPacket(), udpPacket(), udpPacket()))
	}
	n := testing.AllocsPerRun(100, func() {
		stage.Process(batches[0])
		batches = batches[1:]
	})
	if n != 0 {
		t.Errorf("Process allocates %v times", n)
	}
}

// benchmarkTeeing is benchmark with a new batch after every few calls.
func benchmarkTeeing(b *testing.B, stage pipeline.Stage) {
	b.Setenv("XDPIPE_VERIFY", "0") // the ledger would be most of what is measured
	const batches, packets = 64, 64
	const calls = pipeline.MaxBatch / packets // as many references as a batch has room for
	mem, err := umem.New(umem.Options{Frames: batches * packets, Pages: umem.Pages4K})
	must(b, err)
	cache := mem.NewCache(batches * packets)
	var all [batches]*pipeline.Batch
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range all {
			all[i] = pipeline.NewBatch(cache, packets)
			for range packets {
				copy(all[i].Alloc(60), udpPacket())
			}
		}
		b.StartTimer()
		for _, batch := range all {
			for range calls {
				stage.Process(batch)
			}
		}
		b.StopTimer()
		for _, batch := range all {
			for _, d := range batch.Descs() {
				for range mem.Refs(d.Addr) {
					cache.Put(d.Addr)
				}
			}
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batches/calls/packets, "ns/packet")
	cache.Close()
	must(b, mem.Close())
}
