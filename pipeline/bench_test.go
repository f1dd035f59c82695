package pipeline_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// loopRig is an engine from a simulated port to another, run and fed by the
// calling goroutine: everything the engine does for a packet, and nothing of
// the kernel's.
func loopRig(b *testing.B, stages string, batch int) (*pipeline.Engine, func()) {
	mem, err := umem.New(umem.Options{Frames: 8192})
	if err != nil {
		b.Fatal(err)
	}
	specs, err := pipeline.ParseQuick("stages", stages)
	if err != nil {
		b.Fatal(err)
	}
	var ports []pipeline.Port
	var kernels []*xsktest.Kernel
	for _, name := range []string{"a", "b"} {
		s, k, err := xsktest.New(mem, xsk.Options{RxSize: 512, TxSize: 512, FillSize: 512, CompletionSize: 512})
		if err != nil {
			b.Fatal(err)
		}
		kernels = append(kernels, k)
		ports = append(ports, pipeline.Port{Name: name, Queues: []pipeline.Queue{pipeline.NewXSK(s, name, "simulated")}})
	}
	eng, err := pipeline.New(pipeline.Options{
		Memory: mem, Ports: ports, Log: slog.New(slog.DiscardHandler),
		Workers:   pipeline.WorkersConfig{Batch: batch},
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "a", To: "b", Stages: specs}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := eng.Close(); err != nil {
			b.Error(err)
		}
		if err := mem.Close(); err != nil {
			b.Error(err)
		}
	})
	// Every frame once holds a UDP packet, so that parse has headers to read.
	eng.Round()
	udp := udpPacket()
	for range mem.Frames() / 64 {
		for range 64 {
			kernels[0].Deliver(udp)
		}
		eng.Round()
		kernels[1].Drain(64)
		eng.Round()
	}
	return eng, func() {
		if n := kernels[0].Refill(batch, 64); n != batch {
			b.Fatalf("refilled %d of %d: %+v", n, batch, eng.Snapshot())
		}
		if n := eng.Round(); n != batch {
			b.Fatalf("%d packets in a round, want %d", n, batch)
		}
		kernels[1].Drain(batch)
	}
}

func udpPacket() []byte {
	p := make([]byte, 64)
	copy(p, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00"+
		"\x45\x00\x00\x32\x00\x00\x40\x00\x40\x11\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02"+
		"\x10\x00\x00\x35\x00\x1e\x00\x00")
	return p
}

func runLoop(b *testing.B, stages string, batch int) {
	_, round := loopRig(b, stages, batch)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/packet")
}

// The whole loop of DESIGN.md: RX ring, parse, MAC swap, count, TX ring,
// completion, fill, both sides of the rings on one core.
func BenchmarkEngineLoop(b *testing.B) {
	for _, batch := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("parse+macswap+count/batch=%d", batch), func(b *testing.B) {
			runLoop(b, "parse ! macswap ! count", batch)
		})
	}
	b.Run("no stages/batch=64", func(b *testing.B) { runLoop(b, "", 64) })
}

// What a stage costs beyond what it does: compare by the number of them.
func BenchmarkEmptyStages(b *testing.B) {
	for _, n := range []int{0, 1, 4, 16} {
		stages := strings.TrimSuffix(strings.Repeat("test-empty ! ", n), " ! ")
		b.Run(fmt.Sprintf("stages=%02d/batch=64", n), func(b *testing.B) { runLoop(b, stages, 64) })
	}
}

func BenchmarkMetaParse(b *testing.B) {
	p := udpPacket()
	var m pipeline.Meta
	b.ReportAllocs()
	for b.Loop() {
		m.Parse(p)
	}
}

// What a snapshot costs the caller, with a worker spinning.
func BenchmarkSnapshot(b *testing.B) {
	r := newRig(b, pipeline.WorkersConfig{Idle: pipeline.IdleSpin}, "parse ! count")
	r.start()
	for b.Loop() {
		r.eng.Snapshot()
	}
	r.stop()
}
