package pipelinetest

import (
	"slices"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// source is a queue that packets come from; done is called once there are no more.
type source struct {
	idle
	packets []Packet
	clock   *clock
	batch   int
	done    func()
	count   pipeline.QueueCounters

	descriptor int // bytes that one has at most
	frames     []uint64
}

func (q *source) Receive(b *pipeline.Batch) int {
	n := 0
	for ; n < q.batch && len(q.packets) > 0; n++ {
		p := q.packets[0]
		if !q.take(b, p.Data) {
			break // no frames are free until others are: the next round takes it
		}
		q.clock.set(p.At.Nanoseconds())
		b.SetArrival(b.Len()-1, q.clock.read())
		q.packets = q.packets[1:]
		q.count.RxPackets++
		q.count.RxBytes += uint64(len(p.Data))
	}
	if len(q.packets) == 0 && q.done != nil {
		q.done()
		q.done = nil
	}
	return n
}

// take appends a packet, in as many descriptors as it needs.
func (q *source) take(b *pipeline.Batch, data []byte) bool {
	cache := b.Cache()
	mem := cache.Memory()
	want := (len(data) + q.descriptor - 1) / q.descriptor
	q.frames = slices.Grow(q.frames[:0], want)[:want]
	if got := cache.GetN(q.frames); got < want || b.Room() == 0 {
		cache.PutN(q.frames[:got])
		return false
	}
	for i, addr := range q.frames {
		d := xsk.Desc{Addr: mem.DataStart(addr), Len: uint32(min(len(data), q.descriptor))}
		copy(mem.Packet(d.Addr, d.Len), data)
		data = data[d.Len:]
		if i > 0 {
			b.AppendSegment(d)
			continue
		}
		b.Free()[0] = d
		b.Append(1)
	}
	return true
}

func (q *source) Transmit(*pipeline.Batch) (int, pipeline.Reason) {
	return 0, pipeline.ReasonPortGone
}

// Service lets time pass also when nobody looks at the clock.
func (q *source) Service(*umem.Cache) error {
	q.clock.read()
	return nil
}

func (q *source) Counters() pipeline.QueueCounters { return q.count }

// sink is a queue that keeps what is transmitted.
type sink struct {
	idle
	clock *clock
	out   []Packet
	count pipeline.QueueCounters
}

func (q *sink) Receive(*pipeline.Batch) int { return 0 }

func (q *sink) Transmit(b *pipeline.Batch) (int, pipeline.Reason) {
	for i := range b.Len() {
		p := Packet{Meta: *b.Meta(i)}
		for k := range b.Segments(i) {
			p.Data = append(p.Data, b.Segment(i, k)...)
		}
		p.at(b.Arrival(i))
		q.out = append(q.out, p)
		q.count.TxPackets++
		q.count.TxBytes += uint64(len(p.Data))
	}
	b.Release()
	return b.Len(), 0
}

// MultiBuffer: packets of several descriptors are joined.
func (q *sink) MultiBuffer() bool { return true }

func (q *sink) Counters() pipeline.QueueCounters { return q.count }

// idle is what queues in memory have nothing to do for.
type idle struct{}

func (idle) Service(*umem.Cache) error { return nil }
func (idle) Poll() (int, bool)         { return -1, false }
func (idle) PollError() error          { return nil }
func (idle) Info() pipeline.QueueInfo {
	return pipeline.QueueInfo{Interface: "memory", Mode: "memory", State: "up"}
}
func (idle) Places() xsk.Places { return xsk.Places{} }
func (idle) Close() error       { return nil }
