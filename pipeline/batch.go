package pipeline

import (
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// MaxBatch is the most packets a Batch holds.
const MaxBatch = 256

// A Batch is up to MaxBatch packets, as parallel arrays of descriptors and
// metadata. A stage works through it with
//
//	for i := range b.Len() {
//		data := b.Data(i)
//		…
//	}
//
// It belongs to the worker that runs the stage; keep nothing of it after
// Process returns.
type Batch struct {
	n      int
	limit  int  // packets a Queue may fill it to
	marked int  // packets whose fate is not "next stage"
	multi  bool // there may be packets of several descriptors
	round  *round

	mem   *umem.Memory
	cache *umem.Cache
	segs  *segmentTable

	desc [MaxBatch]xsk.Desc
	meta [MaxBatch]Meta
	fate [MaxBatch]fate
	tees []tee
}

// A tee is a further reference to a packet, for an output of the stage.
type tee struct {
	packet int
	output Output
}

// A fate is where a packet goes after the stage that has it: 0 is the next
// stage, a small number an output; with the dropped bit set, the rest is the
// Reason; with the handed bit set, it is the worker that has it next.
type fate uint16

const (
	dropped fate = 1 << 15
	handed  fate = 1 << 14
)

// An Output is a way out of a stage: 0 is the next stage, others are those its
// module names, as Context.Output returns them.
type Output uint8

// Next is the output that packets take by themselves: to the next stage.
const Next Output = 0

// NewBatch returns an empty batch for up to limit packets, at most MaxBatch, in
// the cache's memory. The engine makes its own; this is for tests of stages and
// queues.
func NewBatch(cache *umem.Cache, limit int) *Batch {
	return newBatch(cache, limit, &segmentTable{mem: cache.Memory()}, &round{read: clock})
}

func newBatch(cache *umem.Cache, limit int, segs *segmentTable, r *round) *Batch {
	return &Batch{
		mem: cache.Memory(), cache: cache, segs: segs, round: r, limit: min(limit, MaxBatch),
		tees: make([]tee, 0, MaxBatch),
	}
}

// Len returns the number of packets.
func (b *Batch) Len() int { return b.n }

// A round is the time of one pass of a worker over its queues. The clock is read
// when somebody first asks in it: that costs about what a stage does for ten packets.
type round struct {
	now  int64 // 0 if nobody has asked
	read func() int64
}

func (r *round) time() int64 {
	if r.now == 0 {
		r.now = r.read()
	}
	return r.now
}

// Now is the time of this round, in nanoseconds of the engine's clock, which is
// monotonic and begins with the process.
func (b *Batch) Now() int64 { return b.round.time() }

// Arrival is the time of the round in which the packet was taken from its port or
// made, on the clock of Now.
func (b *Batch) Arrival(i int) int64 {
	if at := b.meta[i].arrival; at != 0 {
		return at
	}
	return b.Now()
}

// SetArrival says when the packet arrived, for Queues that know better.
func (b *Batch) SetArrival(i int, at int64) { b.meta[i].arrival = at }

// Data returns the packet's bytes from its first header on, of a packet of
// several descriptors those of the first. The slice is valid until Process
// returns, may be written to if the stage's module Writes, and ends with the packet.
func (b *Batch) Data(i int) []byte {
	d := &b.desc[i]
	return b.mem.Packet(d.Addr, d.Len)
}

// Size returns the packet's length in bytes, over all its descriptors.
func (b *Batch) Size(i int) int {
	if d := &b.desc[i]; d.Options&contd == 0 {
		return int(d.Len)
	}
	return b.segs.size(b.desc[i])
}

// Meta returns the packet's metadata, valid until Process returns. A stage that
// changes headers keeps it true.
func (b *Batch) Meta(i int) *Meta { return &b.meta[i] }

// Drop drops the packet for the given reason once Process returns. Of several
// verdicts on one packet the first counts. Like an index, it panics when there
// is no such packet.
func (b *Batch) Drop(i int, why Reason) { b.mark(i, dropped|fate(why)) }

// To sends the packet out by the output once Process returns, instead of to the
// next stage. Of several verdicts on one packet the first counts.
func (b *Batch) To(i int, out Output) { b.mark(i, fate(out)) }

// ToWorker continues the packet with the next stage on another worker, by its
// index. Only stages of modules that Hand may use it; on the worker's own index
// it does nothing.
func (b *Batch) ToWorker(i, worker int) { b.mark(i, handed|fate(worker)) }

func (b *Batch) mark(i int, to fate) {
	// A mark beyond the end would be taken for that of a later batch's packet.
	if f := b.fate[:b.n]; f[i] == 0 && to != 0 {
		f[i] = to
		b.marked++
	}
}

// Tee sends one more reference to the packet out by the output, as it is when
// Process returns; the packet itself goes on, or where To or Drop send it.
// Nothing is copied: whoever of the two writes first gets a copy of its own.
func (b *Batch) Tee(i int, out Output) {
	_ = b.fate[:b.n][i]
	b.segs.ref(b.desc[i])
	b.tees = append(b.tees, tee{i, out})
}

// Dropped reports whether the packet was dropped by this stage.
func (b *Batch) Dropped(i int) bool { return b.fate[i]&dropped != 0 }

// Verdict says what the stage did with the packet so far: where it goes, or that
// it is dropped and why. It is for tests of stages.
func (b *Batch) Verdict(i int) (to Output, isDropped bool, why Reason) {
	switch f := b.fate[i]; {
	case f&dropped != 0:
		return 0, true, Reason(f &^ dropped)
	case f&handed != 0:
		return 0, false, 0
	default:
		return Output(f), false, 0
	}
}

// release gives the frames of all packets from the from-th on back, and those of
// tees that were not delivered.
func (b *Batch) release(from int) {
	for i := from; i < b.n; i++ {
		b.put(&b.desc[i])
		b.fate[i] = 0
	}
	for _, t := range b.tees {
		b.put(&b.desc[t.packet])
	}
	b.tees = b.tees[:0]
	b.n, b.marked = min(b.n, from), 0
}

// put gives back one reference to all frames of a packet.
func (b *Batch) put(d *xsk.Desc) {
	if d.Options&contd == 0 {
		b.cache.Put(d.Addr)
		return
	}
	b.segs.put(*d, b.cache)
}

// add appends a packet whose frame the batch then holds. There must be room, and
// the time of its arrival be known.
func (b *Batch) add(d xsk.Desc, m *Meta) {
	b.desc[b.n], b.meta[b.n] = d, *m
	b.multi = b.multi || d.Options&contd != 0
	b.n++
}

// The following are for Queues, which fill batches and empty them, and for
// sources.

// Free returns the descriptors after the last packet, as many as the batch has
// room for, to be filled with packets of its memory and appended with Append.
func (b *Batch) Free() []xsk.Desc { return b.desc[b.n:b.limit] }

// Append appends the first n descriptors of Free, whose frames the batch then
// holds. Each must be of at least one byte and lie within one frame, as those from
// an RX ring do: a packet stays so until it is transmitted, since stages can only
// move its ends within the frame, and is not checked again. The ledger checks it.
func (b *Batch) Append(n int) {
	fresh := b.meta[b.n : b.n+n]
	now := b.round.now // if it is not known yet, it is this round's that is asked for later
	for i := range fresh {
		m := &fresh[i]
		m.arrival = now
		m.Flags, m.trace = 0, 0
	}
	b.n += n
}

// Alloc appends a packet of n bytes in a new frame and returns its bytes, to be
// written; nil if the batch is full, no frame is free, or n is not from 1 to what a
// frame holds. In a stage it makes a packet that goes to the next one.
func (b *Batch) Alloc(n int) []byte {
	if b.n == b.limit || n < 1 || n > b.mem.MaxPacket() {
		return nil
	}
	addr, ok := b.cache.Get()
	if !ok {
		return nil
	}
	b.desc[b.n] = xsk.Desc{Addr: b.mem.DataStart(addr), Len: uint32(n)}
	b.Append(1)
	return b.Data(b.n - 1)
}

// Room returns how many packets Alloc can append, frames permitting.
func (b *Batch) Room() int { return b.limit - b.n }

// Cache returns the cache that the batch's frames come from and go back to, for
// Queues that copy packets and keep none of their frames.
func (b *Batch) Cache() *umem.Cache { return b.cache }

// Release gives the frames of all packets back, for Queues whose Transmit copies
// them. The batch still has them all: Transmit returns Len.
func (b *Batch) Release() {
	for i := range b.n {
		b.put(&b.desc[i])
	}
}

// Descs returns the descriptors of all packets. A Queue that hands some to its
// ring returns how many from Transmit.
func (b *Batch) Descs() []xsk.Desc { return b.desc[:b.n] }
