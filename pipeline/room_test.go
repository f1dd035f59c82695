package pipeline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

// newTestBatch returns an empty batch on a memory of its own, with the ledger on.
func newTestBatch(t testing.TB, opts umem.Options) *Batch {
	t.Helper()
	opts.Pages, opts.Verify = umem.Pages4K, true
	mem, err := umem.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	cache := mem.NewCache(0)
	b := NewBatch(cache, MaxBatch)
	t.Cleanup(func() {
		b.release(0)
		cache.Close()
		if err := mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// put appends packets.
func put(t testing.TB, b *Batch, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		room := b.Alloc(len(p))
		if room == nil {
			t.Fatalf("no frame for %d bytes", len(p))
		}
		copy(room, p)
	}
}

// A verb is a way to move an end of a packet, and what it can do: how many bytes
// at most, given the bytes of the frame before, in and after the packet.
type verb struct {
	name   string
	do     func(b *Batch, i, n int) bool
	why    Reason
	most   func(before, size, after int) int
	change func(packet []byte, n int) []byte
}

var verbs = []verb{
	{"Push", (*Batch).Push, ReasonNoHeadroom,
		func(before, _, _ int) int { return before },
		func(p []byte, n int) []byte { return append(make([]byte, n), p...) }},
	{"Pull", (*Batch).Pull, ReasonTooShort,
		func(_, size, _ int) int { return size - 1 },
		func(p []byte, n int) []byte { return p[n:] }},
	{"Extend", (*Batch).Extend, ReasonNoTailroom,
		func(_, _, after int) int { return after },
		func(p []byte, n int) []byte { return append(bytes.Clone(p), make([]byte, n)...) }},
	{"Trim", (*Batch).Trim, ReasonTooShort,
		func(_, size, _ int) int { return size - 1 },
		func(p []byte, n int) []byte { return p[:len(p)-n] }},
}

// room returns how much of the packet's frame is before and after it.
func room(b *Batch, i int) (before, after int) {
	d := b.desc[i]
	before = int(d.Addr - b.mem.Start(d.Addr))
	return before, b.mem.FrameSize() - before - int(d.Len)
}

func TestAPacketsEndsMoveAndNoOtherByteChanges(t *testing.T) {
	for _, opts := range []umem.Options{{Frames: 6}, {Frames: 6, Headroom: 64}, {Frames: 6, Headroom: 1000}, {Frames: 5, FrameSize: 4096}} {
		t.Run(fmt.Sprintf("%d bytes of headroom", opts.Headroom), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(opts.Headroom), 1))
			b := newTestBatch(t, opts)
			for range opts.Frames - 1 { // the first is at the start of the memory, and its end is free
				put(t, b, make([]byte, 1+rng.IntN(b.mem.MaxPacket())))
			}
			memory := b.mem.Region()
			for i := range memory {
				memory[i] = byte(rng.Uint32())
			}
			done := map[string]int{}
			for range 3000 {
				done[step(t, rng, b, rng.IntN(b.Len()))]++
			}
			for _, v := range verbs {
				if done[v.name] < 100 || done["no "+v.name] < 100 {
					t.Errorf("%s was done %d times and refused %d times, of 3000: %v", v.name, done[v.name], done["no "+v.name], done)
				}
			}
		})
	}
}

// step does something to a packet and compares with what it should have done.
func step(t *testing.T, rng *rand.Rand, b *Batch, i int) string {
	t.Helper()
	v := verbs[rng.IntN(len(verbs))]
	before, after := room(b, i)
	was := bytes.Clone(b.Data(i))
	most := v.most(before, len(was), after)
	n := []int{
		0, 1, 4, 14, rng.IntN(64), rng.IntN(most + 1), most, most + 1, most + 2, -1, -4, -most - 1,
		math.MaxInt, math.MinInt, math.MaxInt32, math.MinInt32, 1 << 32, 1<<32 + 4, -1 << 32, math.MaxUint32, math.MaxUint16,
	}[rng.IntN(21)]
	memory := bytes.Clone(b.mem.Region())
	desc, meta := b.desc[i], b.meta[i]

	ok := v.do(b, i, n)

	if want := n >= 0 && n <= most; ok != want {
		t.Fatalf("%s(%d) of %d bytes with %d before and %d behind is %v", v.name, n, len(was), before, after, ok)
	}
	want := was
	if ok {
		want = v.change(was, n)
		at := b.desc[i].Addr
		copy(memory[at:at+uint64(len(want))], want)
	} else {
		if _, dropped, why := b.Verdict(i); !dropped || why != v.why || b.marked != 1 {
			t.Fatalf("%s(%d) refused: dropped %v for reason %d, %d packets marked", v.name, n, dropped, why, b.marked)
		}
		if b.desc[i] != desc || b.meta[i] != meta {
			t.Fatalf("%s(%d) refused, and yet the packet is %+v %+v, was %+v %+v", v.name, n, b.desc[i], b.meta[i], desc, meta)
		}
		b.fate[i], b.marked = 0, 0 // for the next step
	}
	if !bytes.Equal(b.Data(i), want) {
		t.Fatalf("%s(%d) of %x is %x", v.name, n, was, b.Data(i))
	}
	if !bytes.Equal(b.mem.Region(), memory) {
		t.Fatalf("%s(%d) changed bytes that are not the packet's", v.name, n)
	}
	if !b.mem.Contains(b.desc[i].Addr, b.desc[i].Len) {
		t.Fatalf("%s(%d) left the frame: %+v", v.name, n, b.desc[i])
	}
	if ok {
		return v.name
	}
	return "no " + v.name
}

func TestADropForWantOfRoomCountsOnceAndKeepsItsFirstReason(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, make([]byte, 60), make([]byte, 60))
	if b.Push(0, 4000) || b.Pull(0, 60) || b.Extend(0, 4000) || b.Trim(0, 60) {
		t.Fatal("done without room")
	}
	if _, _, why := b.Verdict(0); why != ReasonNoHeadroom || b.marked != 1 {
		t.Errorf("dropped for reason %d, %d packets marked; want the first reason, and one", why, b.marked)
	}
	b.To(1, 3)
	if b.Trim(1, 60) {
		t.Fatal("nothing is left of it")
	}
	if to, dropped, _ := b.Verdict(1); to != 3 || dropped {
		t.Errorf("output %d, dropped %v: the first verdict counts", to, dropped)
	}
}

func TestTheVerbsPanicWhereThereIsNoPacket(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, make([]byte, 60))
	for _, v := range verbs {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a packet that is not there does not panic", v.name)
				}
			}()
			v.do(b, MaxBatch, 1)
		}()
	}
}

func TestTheVerbsDoNotAllocate(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, []byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp)))
	b.Parse()
	if n := testing.AllocsPerRun(100, func() {
		b.Push(0, 4)
		b.Pull(0, 4)
		b.Extend(0, 4)
		b.Trim(0, 4)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPushAndPull(b *testing.B) {
	mem, err := umem.New(umem.Options{Frames: 128, Pages: umem.Pages4K})
	if err != nil {
		b.Fatal(err)
	}
	defer mem.Close()
	batch := NewBatch(mem.NewCache(0), 64)
	for range 64 {
		copy(batch.Alloc(60), testMACs+"\x08\x00"+ip4(17, 0, "", udp))
	}
	batch.Parse()
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch.Len() {
			batch.Push(i, 4)
			binary.BigEndian.PutUint32(batch.Data(i), 7)
			batch.Pull(i, 4)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
}
