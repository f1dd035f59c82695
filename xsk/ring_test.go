package xsk_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/xdpipe/xdpipe/xsk"
)

func TestRingKeepsOrderAcrossTheWrapOfItsIndices(t *testing.T) {
	for _, size := range []int{1, 2, 8, 64} {
		for back := range uint32(200) {
			mem := xsk.NewRingMemory[uint64](size, -back)
			p, c := xsk.NewProducer(mem), xsk.NewConsumer(mem)
			var in, out uint64
			for step := range 60 {
				n := min(1+step%5, p.Free(size))
				a, b := p.Slots(n)
				for _, s := range [][]uint64{a, b} {
					for i := range s {
						s[i] = in
						in++
					}
				}
				p.Submit(n)
				if got := p.Free(size + 1); got != size-int(in-out) {
					t.Fatalf("size %d start -%d: %d free with %d in use", size, back, got, in-out)
				}
				n = c.Available(1 + step%7)
				a, b = c.Slots(n)
				for _, s := range [][]uint64{a, b} {
					for _, v := range s {
						if v != out {
							t.Fatalf("size %d start -%d: read %d, want %d", size, back, v, out)
						}
						out++
					}
				}
				c.Release(n)
			}
			if p.Pending() != int(in-out) {
				t.Fatalf("%d pending, want %d", p.Pending(), in-out)
			}
		}
	}
}

func TestRingFullAndEmptyAreTold(t *testing.T) {
	mem := xsk.NewRingMemory[uint64](4, ^uint32(0)-1)
	p, c := xsk.NewProducer(mem), xsk.NewConsumer(mem)
	if c.Available(10) != 0 {
		t.Error("a new ring has something to read")
	}
	p.Submit(4)
	if n := p.Free(1); n != 0 {
		t.Errorf("%d free in a full ring", n)
	}
	if n := c.Available(10); n != 4 {
		t.Errorf("%d available in a full ring of 4", n)
	}
	c.Release(4)
	if p.Free(4) != 4 || c.Available(1) != 0 {
		t.Error("not empty after everything was read")
	}
}

// With -race this is the proof of the ordering contract: slots are plain
// memory, and only the indices order the accesses to them.
func TestRingBetweenGoroutinesLosesNothing(t *testing.T) {
	mem := xsk.NewRingMemory[xsk.Desc](64, ^uint32(0)-1000)
	const total = 50_000
	var wg sync.WaitGroup
	wg.Go(func() {
		p := xsk.NewProducer(mem)
		for sent := uint64(0); sent < total; {
			n := min(p.Free(16), 16, int(total-sent))
			a, b := p.Slots(n)
			for _, s := range [][]xsk.Desc{a, b} {
				for i := range s {
					s[i] = xsk.Desc{Addr: sent, Len: uint32(sent)}
					sent++
				}
			}
			p.Submit(n)
		}
	})
	c := xsk.NewConsumer(mem)
	for got := uint64(0); got < total; {
		n := c.Available(32)
		a, b := c.Slots(n)
		for _, s := range [][]xsk.Desc{a, b} {
			for _, d := range s {
				if d.Addr != got || d.Len != uint32(got) {
					t.Fatalf("read %+v, want %d", d, got)
				}
				got++
			}
		}
		c.Release(n)
	}
	wg.Wait()
}

func BenchmarkRing(b *testing.B) {
	for _, batch := range []int{1, 64} {
		mem := xsk.NewRingMemory[xsk.Desc](2048, 0)
		p, c := xsk.NewProducer(mem), xsk.NewConsumer(mem)
		buf := make([]xsk.Desc, batch)
		b.Run(fmt.Sprintf("produce+consume/batch=%d", batch), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := p.Free(batch)
				x, y := p.Slots(min(n, batch))
				copy(x, buf)
				copy(y, buf[len(x):])
				p.Submit(batch)
				n = c.Available(batch)
				x, y = c.Slots(n)
				copy(buf, x)
				copy(buf[len(x):], y)
				c.Release(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/desc")
		})
	}
}
