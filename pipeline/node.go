package pipeline

import (
	"hash/maphash"
	"time"

	"github.com/xdpipe/xdpipe/xsk"
)

// A node is one stage instance of one worker, with its counters. Everything in
// it is the worker's.
type node struct {
	stage  Stage
	name   string // pipeline/position:type
	kind   string
	key    nodeKey // what it is recognised by on a reload
	writes bool

	outs   []*entry // where outputs lead, from Output 1 on
	hands  []*ring  // of a stage that hands: to each worker, nil for its own
	sealed bool     // the ledger is on: check that it writes only if it says so

	had      int // packets of the batch at hand that are counted
	calls    uint64
	packets  uint64
	timed    uint64   // packets of the calls that were timed
	nanos    int64    // time those calls took
	created  uint64   // packets it made
	consumed uint64   // packets that ended in it, not dropped
	teed     uint64   // further references it made
	copied   uint64   // packets copied so that it could write
	drops    []uint64 // by Reason
}

// timeEvery is how many calls of a stage there are to one that is timed. Reading
// the clock costs about as much as a cheap stage on a small batch.
const timeEvery = 16

// epoch makes time.Since read the monotonic clock only.
var epoch = time.Now()

// clock is the engine's clock unless Options give another: nanoseconds of the
// monotonic clock.
func clock() int64 { return int64(time.Since(epoch)) }

// process runs the stage on the batch, and sends the packets where it said.
func (n *node) process(w *worker, b *Batch) {
	if n.writes && b.mem.Shared() && b.n > 0 {
		if n.unshare(w, b); b.n == 0 {
			return
		}
	}
	n.calls++
	n.packets += uint64(b.n)
	n.had = b.n
	if w.tracer != nil || n.sealed {
		n.watched(w, b)
	} else {
		n.call(b)
	}
	if b.n > n.had {
		n.made(b)
	}
	if b.marked > 0 || len(b.tees) > 0 {
		n.sweep(w, b)
	}
}

// made counts the packets that the stage has added to the batch.
func (n *node) made(b *Batch) {
	n.created += uint64(b.n - n.had)
	n.packets += uint64(b.n - n.had)
	n.had = b.n
}

func (n *node) call(b *Batch) {
	if n.calls%timeEvery != 1 {
		n.stage.Process(b)
		return
	}
	start := clock()
	n.stage.Process(b)
	n.nanos += clock() - start
	n.timed += uint64(b.n)
}

// watched is call with a tracer, or with the ledger on.
func (n *node) watched(w *worker, b *Batch) {
	var seals []seal
	if n.sealed && !n.writes {
		seals = b.seal()
	}
	t := w.tracer
	if t != nil {
		w.watch.before(t, b)
	}
	n.call(b)
	for i, s := range seals {
		if s.hash != b.sum(s.addr, s.len) || s.grew(&b.desc[i]) {
			panic("it changed bytes of a packet, and its module does not say that it Writes: others may hold the packet too; set Writes: true")
		}
	}
	if t != nil {
		w.watch.after(t, w, n, b)
	}
}

var sealSeed = maphash.MakeSeed()

// A seal is what the bytes of a packet were.
type seal struct {
	addr uint64
	len  uint32
	hash uint64
}

// grew reports whether the packet was pushed or extended, which zeroes bytes that
// another holder may have.
func (s *seal) grew(d *xsk.Desc) bool {
	return d.Addr < s.addr || d.Addr+uint64(d.Len) > s.addr+uint64(s.len)
}

func (b *Batch) seal() []seal {
	seals := make([]seal, b.n)
	for i := range seals {
		d := b.desc[i]
		seals[i] = seal{d.Addr, d.Len, b.sum(d.Addr, d.Len)}
	}
	return seals
}

func (b *Batch) sum(addr uint64, n uint32) uint64 {
	return maphash.Bytes(sealSeed, b.mem.Packet(addr, n))
}

// sweep takes the packets that do not go to the next stage out of the batch, each
// to where the stage sent it. The others keep their order.
func (n *node) sweep(w *worker, b *Batch) {
	for _, t := range b.tees {
		n.teed++
		n.deliver(w, b, b.desc[t.packet], &b.meta[t.packet], t.output)
	}
	b.tees = b.tees[:0]
	if b.marked == 0 {
		return
	}
	kept, count := 0, b.n
	b.n, b.marked = 0, 0 // what is below is the sweep's own
	for i := range count {
		f := b.fate[i]
		b.fate[i] = 0
		switch {
		case f == 0 || f == handed|fate(w.id):
			if kept != i {
				b.desc[kept], b.meta[kept] = b.desc[i], b.meta[i]
			}
			kept++
		case f&dropped != 0:
			n.drop(b, &b.desc[i], Reason(f&^dropped))
		case f&handed != 0:
			n.hand(w, b, i, int(f&^handed))
		default:
			n.deliver(w, b, b.desc[i], &b.meta[i], Output(f))
		}
	}
	b.n = kept
}

func (n *node) drop(b *Batch, d *xsk.Desc, why Reason) {
	if int(why) >= len(n.drops) {
		why = 0 // not the engine's, or made after Provision
	}
	n.drops[why]++
	b.put(d)
}

// deliver puts a packet into the batch that waits where the output leads.
func (n *node) deliver(w *worker, b *Batch, d xsk.Desc, m *Meta, out Output) {
	if out == Next || int(out) > len(n.outs) || n.outs[out-1] == nil {
		w.lost(m, n.name, ReasonNoOutput)
		n.drop(b, &d, ReasonNoOutput)
		return
	}
	n.outs[out-1].take(w, d, m)
}

// hand gives a packet to another worker.
func (n *node) hand(w *worker, b *Batch, i, to int) {
	why := ReasonNoOutput
	b.meta[i].arrival = b.Arrival(i)
	if to < len(n.hands) && n.hands[to] != nil {
		if n.hands[to].push(b.desc[i], &b.meta[i]) {
			w.pushed = true
			return
		}
		why = ReasonHandoffFull
	}
	w.lost(&b.meta[i], n.name, why)
	n.drop(b, &b.desc[i], why)
}

// unshare gives every packet that others hold too a copy of its own, so that it may
// be written to. One for which no frame is free is dropped before the stage sees it.
func (n *node) unshare(w *worker, b *Batch) {
	kept := 0
	for i := range b.n {
		if b.mem.Refs(b.desc[i].Addr) > 1 {
			d, ok := b.copyOf(b.desc[i])
			if !ok {
				w.lost(&b.meta[i], n.name, ReasonNoFrame)
				n.drop(b, &b.desc[i], ReasonNoFrame)
				continue
			}
			b.put(&b.desc[i])
			b.desc[i] = d
			n.copied++
			if w.tracer != nil {
				w.watch.copied = append(w.watch.copied, kept)
			}
		}
		if kept != i {
			b.desc[kept], b.meta[kept] = b.desc[i], b.meta[i]
		}
		kept++
	}
	n.packets += uint64(b.n - kept) // it dropped them, and so had them
	b.n = kept
}

// copyOf copies a packet into frames of its own.
func (b *Batch) copyOf(d xsk.Desc) (xsk.Desc, bool) {
	addr, ok := b.cache.Get()
	if !ok {
		return d, false
	}
	c := d
	c.Addr = b.mem.Start(addr) + (d.Addr - b.mem.Start(d.Addr))
	copy(b.mem.Packet(c.Addr, c.Len), b.mem.Packet(d.Addr, d.Len))
	if d.Options&contd != 0 {
		next, ok := b.copyOf(b.segs.after(d))
		if !ok {
			b.cache.Put(c.Addr)
			return d, false
		}
		b.segs.link(c.Addr, next)
	}
	return c, true
}
