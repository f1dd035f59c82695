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
	limit  int // packets a Queue may fill it to
	marked int // packets whose fate is not "next stage"

	mem   *umem.Memory
	cache *umem.Cache

	desc [MaxBatch]xsk.Desc
	meta [MaxBatch]Meta
	fate [MaxBatch]fate
}

// A fate is where a packet goes after the stage that has it: 0 is the next
// stage; with the dropped bit set, the rest is the Reason.
type fate uint16

const dropped fate = 1 << 15

// NewBatch returns an empty batch for up to limit packets, at most MaxBatch, in
// the cache's memory. The engine makes its own; this is for tests of stages and
// queues.
func NewBatch(cache *umem.Cache, limit int) *Batch {
	return &Batch{mem: cache.Memory(), cache: cache, limit: min(limit, MaxBatch)}
}

// Len returns the number of packets.
func (b *Batch) Len() int { return b.n }

// Data returns the packet's bytes from its first header on. The slice is valid
// until Process returns, may be written to, and ends with the packet.
func (b *Batch) Data(i int) []byte {
	d := &b.desc[i]
	return b.mem.Packet(d.Addr, d.Len)
}

// Size returns the packet's length in bytes.
func (b *Batch) Size(i int) int { return int(b.desc[i].Len) }

// Meta returns the packet's metadata, valid until Process returns. A stage that
// changes headers keeps it true.
func (b *Batch) Meta(i int) *Meta { return &b.meta[i] }

// Drop drops the packet for the given reason once Process returns. Of several
// drops of one packet the first counts. Like an index, it panics when there is
// no such packet.
func (b *Batch) Drop(i int, why Reason) {
	// A mark beyond the end would be taken for that of a later batch's packet.
	if f := b.fate[:b.n]; f[i] == 0 {
		f[i] = dropped | fate(why)
		b.marked++
	}
}

// Dropped reports whether the packet was dropped by this stage.
func (b *Batch) Dropped(i int) bool { return b.fate[i]&dropped != 0 }

// sweep takes the packets that were dropped out of the batch, gives their
// frames back, and counts each under its reason. The others keep their order.
func (b *Batch) sweep(drops []uint64) {
	if b.marked == 0 {
		return
	}
	kept := 0
	for i := range b.n {
		f := b.fate[i]
		b.fate[i] = 0
		if f == 0 {
			if kept != i {
				b.desc[kept], b.meta[kept] = b.desc[i], b.meta[i]
			}
			kept++
			continue
		}
		why := int(f &^ dropped)
		if why >= len(drops) {
			why = 0 // not the engine's, or made after Provision
		}
		drops[why]++
		b.cache.Put(b.desc[i].Addr)
	}
	b.n, b.marked = kept, 0
}

// release gives the frames of all packets from the from-th on back.
func (b *Batch) release(from int) {
	for i := from; i < b.n; i++ {
		b.cache.Put(b.desc[i].Addr)
		b.fate[i] = 0
	}
	b.n, b.marked = min(b.n, from), 0
}

// The following are for Queues, which fill batches and empty them.

// Free returns the descriptors after the last packet, as many as the batch has
// room for, to be filled with packets of its memory and appended with Extend.
func (b *Batch) Free() []xsk.Desc { return b.desc[b.n:b.limit] }

// Extend appends the first n descriptors of Free, whose frames the batch then
// holds. Each must be of at least one byte and lie within one frame, as those from
// an RX ring do: a packet stays so until it is transmitted, since stages can only
// change its bytes, and is not checked again. The ledger checks it.
func (b *Batch) Extend(n int) {
	fresh := b.meta[b.n : b.n+n]
	for i := range fresh {
		fresh[i].Flags = 0
	}
	b.n += n
}

// Alloc appends a packet of n bytes in a new frame and returns its bytes, to be
// written; nil if the batch is full, no frame is free, or n is not from 1 to what a
// frame holds.
func (b *Batch) Alloc(n int) []byte {
	if b.n == b.limit || n < 1 || n > b.mem.MaxPacket() {
		return nil
	}
	addr, ok := b.cache.Get()
	if !ok {
		return nil
	}
	b.desc[b.n] = xsk.Desc{Addr: b.mem.DataStart(addr), Len: uint32(n)}
	b.Extend(1)
	return b.Data(b.n - 1)
}

// Cache returns the cache that the batch's frames come from and go back to, for
// Queues that copy packets and keep none of their frames.
func (b *Batch) Cache() *umem.Cache { return b.cache }

// Descs returns the descriptors of all packets. A Queue that hands some to its
// ring returns how many from Transmit.
func (b *Batch) Descs() []xsk.Desc { return b.desc[:b.n] }
