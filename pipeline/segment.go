package pipeline

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// contd in a descriptor's options says that the packet goes on in another
// (linux/if_xdp.h, Linux 6.6).
const contd = unix.XDP_PKT_CONTD

// A segmentTable links the descriptors of packets that have several: for each
// frame the descriptor that comes after the one in it. What moves through
// batches and rings is a packet's first descriptor; the others stay here until
// the packet is transmitted or released. One table serves an engine: an entry is
// written by whoever holds the frame.
type segmentTable struct {
	mem  *umem.Memory
	once sync.Once
	next []xsk.Desc // by frame; nil until the first such packet
}

// link makes d the descriptor after last, whose options the caller marks.
func (t *segmentTable) link(last uint64, d xsk.Desc) {
	t.once.Do(func() { t.next = make([]xsk.Desc, t.mem.Frames()) })
	t.next[t.mem.Frame(last)] = d
}

func (t *segmentTable) after(d xsk.Desc) xsk.Desc { return t.next[t.mem.Frame(d.Addr)] }

func (t *segmentTable) size(d xsk.Desc) int {
	n := int(d.Len)
	for d.Options&contd != 0 {
		d = t.after(d)
		n += int(d.Len)
	}
	return n
}

func (t *segmentTable) ref(d xsk.Desc) {
	t.mem.Ref(d.Addr)
	for d.Options&contd != 0 {
		d = t.after(d)
		t.mem.Ref(d.Addr)
	}
}

func (t *segmentTable) put(d xsk.Desc, cache *umem.Cache) {
	for d.Options&contd != 0 {
		next := t.after(d) // before the frame may be another's
		cache.Put(d.Addr)
		d = next
	}
	cache.Put(d.Addr)
}

// Segments returns how many descriptors the packet has: 1, unless it is longer
// than a frame and came by a port that takes such packets.
func (b *Batch) Segments(i int) int {
	n := 1
	for d := b.desc[i]; d.Options&contd != 0; n++ {
		d = b.segs.after(d)
	}
	return n
}

// Segment returns the bytes of the packet's k-th descriptor, from 0, under the
// rules of Data, which returns those of the first.
func (b *Batch) Segment(i, k int) []byte {
	d := b.desc[i]
	for range k {
		if d.Options&contd == 0 {
			return nil
		}
		d = b.segs.after(d)
	}
	return b.mem.Packet(d.Addr, d.Len)
}

// AppendSegment adds a descriptor to the end of the last packet, for Queues. The
// batch holds its frame from then on.
func (b *Batch) AppendSegment(d xsk.Desc) {
	i := b.n - 1
	d.Options &^= contd
	last := b.desc[i]
	if last.Options&contd == 0 {
		b.desc[i].Options |= contd
	} else {
		for next := b.segs.after(last); next.Options&contd != 0; next = b.segs.after(last) {
			last = next
		}
		// last is the one before the final descriptor, which now has a successor.
		end := b.segs.after(last)
		end.Options |= contd
		b.segs.link(last.Addr, end)
		last = end
	}
	b.segs.link(last.Addr, d)
	b.meta[i].Flags |= MetaMulti
	b.multi = true
}
