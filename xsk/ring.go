package xsk

import "sync/atomic"

// The ordering contract of the rings
//
// A ring is an array of 2^k slots and two indices, each written by one side
// only. Indices are uint32 that count slots since the beginning and wrap; a
// slot is index & mask, and distances are differences, which stay right across
// the wrap. No index is ever compared with < or >.
//
//	                     producer side                 consumer side
//	producer index   writes, store-release         reads,  load-acquire
//	consumer index   reads,  load-acquire          writes, store-release
//	slots            writes before the release     reads after the acquire,
//	                 of the producer index         before the release of the
//	                                               consumer index
//	flags word       reads (fill and TX rings)     writes (kernel only)
//
// So what a producer wrote into a slot is visible to the consumer that saw the
// index pass it, and a slot is written again only after its reader let it go.
// The kernel's half of this is in net/xdp/xsk_queue.h.
//
// On fill and TX rings this side produces and the kernel consumes; on RX and
// completion rings it is the other way round. Each side keeps a private copy of
// its own index and the last value seen of the other's, and reads shared memory
// again only when that is not enough: a cache line that is not read does not
// move between cores.
//
// need_wakeup: the kernel sets the flag and then looks at the producer index
// once more before it sleeps; we store the producer index and then look at the
// flag. One of the two sees the other only if neither pair is reordered, which
// needs a full barrier between our store and our load. Go's atomic operations
// are sequentially consistent, so StoreUint32 followed by LoadUint32 has it: on
// amd64 the store is an XCHG.

// A Desc describes a packet, or a piece of one, in the memory (struct xdp_desc,
// linux/if_xdp.h).
type Desc struct {
	Addr    uint64 // offset of the first byte in the memory
	Len     uint32 // bytes
	Options uint32 // unix.XDP_PKT_CONTD and unix.XDP_TX_METADATA
}

// RingMemory is where a ring lives: mapped from the kernel, or ordinary memory
// in tests. Slots must be a power of two.
type RingMemory[T any] struct {
	Producer *uint32
	Consumer *uint32
	Flags    *uint32 // may be nil
	Slots    []T
}

// NewRingMemory returns a ring of ordinary memory whose indices start at start,
// for rings between goroutines and for tests. Size must be a power of two.
func NewRingMemory[T any](size int, start uint32) RingMemory[T] {
	// The indices are on cache lines of their own, as the kernel has them.
	idx := new([48]uint32)
	idx[0], idx[16] = start, start
	return RingMemory[T]{Producer: &idx[0], Consumer: &idx[16], Flags: &idx[32], Slots: make([]T, size)}
}

// A Producer is the writing end of a ring. It has one owner goroutine.
type Producer[T any] struct {
	mem  RingMemory[T]
	mask uint32
	next uint32 // our index: the next slot to write; published by Submit
	seen uint32 // the consumer's index when last read
}

// NewProducer returns the writing end of the ring at mem.
func NewProducer[T any](mem RingMemory[T]) Producer[T] {
	return Producer[T]{
		mem:  mem,
		mask: uint32(len(mem.Slots)) - 1,
		next: atomic.LoadUint32(mem.Producer),
		seen: atomic.LoadUint32(mem.Consumer),
	}
}

// Size returns the number of slots.
func (p *Producer[T]) Size() int { return len(p.mem.Slots) }

// Free returns how many slots can be written. The consumer's index is read
// again only if fewer than want were free when it was last read.
func (p *Producer[T]) Free(want int) int {
	if n := len(p.mem.Slots) - int(p.next-p.seen); n >= want {
		return n
	}
	p.seen = atomic.LoadUint32(p.mem.Consumer)
	return len(p.mem.Slots) - int(p.next-p.seen)
}

// Pending returns how many submitted slots the consumer has not let go of.
func (p *Producer[T]) Pending() int {
	p.seen = atomic.LoadUint32(p.mem.Consumer)
	return int(p.next - p.seen)
}

// Slots returns the next n slots to write, in two pieces where they wrap round
// the end of the array. n must not exceed Free. They are the caller's until it
// calls Submit.
func (p *Producer[T]) Slots(n int) (a, b []T) { return slots(p.mem.Slots, p.next&p.mask, n) }

// Submit hands the first n of the slots written to the consumer.
func (p *Producer[T]) Submit(n int) {
	p.next += uint32(n)
	atomic.StoreUint32(p.mem.Producer, p.next)
}

// NeedWakeup reports whether the consumer asked to be woken. Call it after
// Submit only: see the contract above.
func (p *Producer[T]) NeedWakeup() bool {
	return atomic.LoadUint32(p.mem.Flags)&ringNeedWakeup != 0
}

// A Consumer is the reading end of a ring. It has one owner goroutine.
type Consumer[T any] struct {
	mem  RingMemory[T]
	mask uint32
	next uint32 // our index: the next slot to read; published by Release
	seen uint32 // the producer's index when last read
}

// NewConsumer returns the reading end of the ring at mem.
func NewConsumer[T any](mem RingMemory[T]) Consumer[T] {
	return Consumer[T]{
		mem:  mem,
		mask: uint32(len(mem.Slots)) - 1,
		next: atomic.LoadUint32(mem.Consumer),
		seen: atomic.LoadUint32(mem.Producer),
	}
}

// Size returns the number of slots.
func (c *Consumer[T]) Size() int { return len(c.mem.Slots) }

// Available returns how many slots can be read, at most limit. The producer's
// index is read again only if fewer than that were there when it was last read.
func (c *Consumer[T]) Available(limit int) int {
	n := int(c.seen - c.next)
	if n < limit {
		c.seen = atomic.LoadUint32(c.mem.Producer)
		n = int(c.seen - c.next)
	}
	return min(n, limit)
}

// Slots returns the next n slots to read, in two pieces where they wrap round
// the end of the array. n must not exceed Available. They are valid until
// Release.
func (c *Consumer[T]) Slots(n int) (a, b []T) { return slots(c.mem.Slots, c.next&c.mask, n) }

// Release gives the first n slots read back to the producer.
func (c *Consumer[T]) Release(n int) {
	c.next += uint32(n)
	atomic.StoreUint32(c.mem.Consumer, c.next)
}

func slots[T any](ring []T, at uint32, n int) (a, b []T) {
	tail := ring[at:]
	if n <= len(tail) {
		return tail[:n], nil
	}
	return tail, ring[:n-len(tail)]
}
