package pipeline

import (
	"sync/atomic"

	"github.com/xdpipe/xdpipe/xsk"
)

// A ring carries packets from one worker to another: descriptors and metadata,
// in order. It has one producer and one consumer.
//
// head is written by the consumer and read by the producer, tail the other way
// round. Both are stored after the slots they speak of were read or written:
// atomic stores release and atomic loads acquire, so that a slot is never read
// before it was written, nor written before it was read. Indices wrap; their
// difference is the number of packets inside.
type ring struct {
	slots []slot
	from  *worker
	to    *worker

	_    [64]byte // producer and consumer write to cache lines of their own
	tail atomic.Uint32
	seen uint32 // the producer's copy of head
	_    [64]byte
	head atomic.Uint32
}

type slot struct {
	desc xsk.Desc
	meta Meta
}

// RingSize is how many packets a ring from one worker to another holds. A
// packet for which there is no room is dropped.
const RingSize = 1024

func newRing(from, to *worker) *ring {
	return &ring{slots: make([]slot, RingSize), from: from, to: to}
}

// push appends a packet; false if there is no room. It is the producer's.
func (r *ring) push(d xsk.Desc, m *Meta) bool {
	tail := r.tail.Load()
	if tail-r.seen == RingSize {
		if r.seen = r.head.Load(); tail-r.seen == RingSize {
			return false
		}
	}
	s := &r.slots[tail%RingSize]
	s.desc, s.meta = d, *m
	r.tail.Store(tail + 1)
	return true
}

// pull appends packets to the batch, as many as it may be filled to. It is the
// consumer's.
func (r *ring) pull(b *Batch) int {
	head := r.head.Load()
	n := min(int(r.tail.Load()-head), b.limit-b.n)
	for range n {
		s := &r.slots[head%RingSize]
		b.add(s.desc, &s.meta)
		head++
	}
	r.head.Store(head)
	return n
}

// len returns how many packets are inside, for either side.
func (r *ring) len() int { return int(r.tail.Load() - r.head.Load()) }

// frames returns how many frames the packets inside have. Neither side works.
func (r *ring) frames(segs *segmentTable) int {
	n := 0
	for i, tail := r.head.Load(), r.tail.Load(); i != tail; i++ {
		n++
		for d := r.slots[i%RingSize].desc; d.Options&contd != 0; n++ {
			d = segs.after(d)
		}
	}
	return n
}
