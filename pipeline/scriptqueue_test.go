package pipeline_test

import (
	"log/slog"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// A scriptQueue is a queue in memory, that takes packets of one descriptor only.
type scriptQueue struct {
	receive func(b *pipeline.Batch) // called in every round; nil: nothing arrives
	sent    []sentPacket
	untimed bool // it does not ask for arrivals
}

// sentPacket is what a scriptQueue was given to transmit.
type sentPacket struct {
	data    string
	arrival int64
}

func (q *scriptQueue) Receive(b *pipeline.Batch) int {
	if q.receive != nil {
		q.receive(b)
	}
	return b.Len()
}

func (q *scriptQueue) Transmit(b *pipeline.Batch) (int, pipeline.Reason) {
	for i := range b.Len() {
		p := sentPacket{data: string(b.Data(i))}
		if !q.untimed {
			p.arrival = b.Arrival(i)
		}
		q.sent = append(q.sent, p)
	}
	b.Release()
	return b.Len(), 0
}

func (q *scriptQueue) Service(*umem.Cache) error        { return nil }
func (q *scriptQueue) Poll() (int, bool)                { return -1, false }
func (q *scriptQueue) PollError() error                 { return nil }
func (q *scriptQueue) Info() pipeline.QueueInfo         { return pipeline.QueueInfo{Interface: "script"} }
func (q *scriptQueue) Counters() pipeline.QueueCounters { return pipeline.QueueCounters{} }
func (q *scriptQueue) Places() xsk.Places               { return xsk.Places{} }
func (q *scriptQueue) Close() error                     { return nil }

// arrive lets a packet of the bytes arrive in the batch, in further descriptors those
// of more.
func arrive(b *pipeline.Batch, data string, more ...string) {
	copy(b.Alloc(len(data)), data)
	mem := b.Cache().Memory()
	for _, part := range more {
		addr, _ := b.Cache().Get()
		d := xsk.Desc{Addr: mem.DataStart(addr), Len: uint32(len(part))}
		copy(mem.Packet(d.Addr, d.Len), part)
		b.AppendSegment(d)
	}
}

// scripted returns an engine that is run round by round: the stages between the
// ports a and b, of which b belongs to the worker owner, on so many workers.
func scripted(t *testing.T, stages string, workers, owner int, clock func() int64) (eng *pipeline.Engine, a, b *scriptQueue) {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: 256, Pages: umem.Pages4K, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	var specs []pipeline.StageSpec
	if stages != "" {
		if specs, err = pipeline.ParseQuick("stages", stages); err != nil {
			t.Fatal(err)
		}
	}
	a, b = &scriptQueue{}, &scriptQueue{}
	p := pipeline.QuickPipeline(specs, "a", "b")
	eng, err = pipeline.New(pipeline.Options{
		Memory: mem, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Workers: pipeline.WorkersConfig{Count: workers, Pin: pipeline.PinConfig{Off: true}},
		Ports: []pipeline.Port{
			{Name: "a", Queues: []pipeline.Queue{a}},
			{Name: "b", Queues: []pipeline.Queue{b}, Workers: []int{owner}},
		},
		Pipelines: []pipeline.Pipeline{p.Pipeline()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
		if err := mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return eng, a, b
}
