package umem

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func TestCacheHandsOutEachFrameOnce(t *testing.T) {
	m := newMemory(t, Options{Frames: 1000, Pages: Pages4K})
	a, b := m.NewCache(64), m.NewCache(10)
	seen := map[uint64]bool{}
	var all []uint64
	for {
		addr, ok := a.Get()
		if !ok {
			if addr, ok = b.Get(); !ok {
				break
			}
		}
		if seen[addr] || addr%2048 != 0 {
			t.Fatalf("frame at %#x handed out twice or not at its start", addr)
		}
		seen[addr] = true
		all = append(all, addr+300) // anywhere inside the frame will do for Put
	}
	if len(all) != 1000 {
		t.Fatalf("%d frames handed out, want 1000", len(all))
	}
	a.PutN(all[:500])
	for _, addr := range all[500:] {
		b.Put(addr)
	}
	if free := m.Free() + a.Len() + b.Len(); free != 1000 {
		t.Errorf("%d frames free, want 1000", free)
	}
	a.Close()
	b.Close()
	if m.Free() != 1000 {
		t.Errorf("%d frames in the pool after Close, want 1000", m.Free())
	}
}

func TestFramesAreConservedUnderRandomUse(t *testing.T) {
	m := newMemory(t, Options{Frames: 300, Pages: Pages4K, Verify: true})
	caches := []*Cache{m.NewCache(8), m.NewCache(32), m.NewCache(0)}
	var held []uint64
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]uint64, 90)
	for range 5000 {
		c := caches[r.IntN(len(caches))]
		switch r.IntN(4) {
		case 0:
			if addr, ok := c.Get(); ok {
				held = append(held, addr)
			}
		case 1:
			held = append(held, buf[:c.GetN(buf[:r.IntN(len(buf))])]...)
		case 2:
			if len(held) > 0 {
				c.Put(held[len(held)-1])
				held = held[:len(held)-1]
			}
		case 3:
			n := r.IntN(len(held) + 1)
			c.PutN(held[:n])
			held = held[n:]
		}
		sum := m.Free() + len(held)
		for _, c := range caches {
			sum += c.Len()
		}
		if sum != 300 {
			t.Fatalf("%d frames in all, want 300", sum)
		}
	}
	caches[0].PutN(held)
	for _, c := range caches {
		c.Close()
	}
}

func TestAFrameWithTwoHoldersIsFreeWhenBothGaveItBack(t *testing.T) {
	for _, verify := range []bool{false, true} {
		m := newMemory(t, Options{Frames: 4, Pages: Pages4K, Verify: verify})
		c := m.NewCache(4)
		addr, _ := c.Get()
		m.Ref(addr + 5)
		if m.Refs(addr) != 2 {
			t.Errorf("%d holders, want 2", m.Refs(addr))
		}
		before := c.Len()
		c.Put(addr)
		if c.Len() != before {
			t.Error("free though another still holds it")
		}
		c.PutN([]uint64{addr})
		if c.Len() != before+1 {
			t.Error("not free though both gave it back")
		}
		c.Close()
	}
}

func TestCloseCountsMissingFrames(t *testing.T) {
	m, err := New(Options{Frames: 8, Pages: Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	c := m.NewCache(2)
	c.Get()
	c.Close()
	if err := m.Close(); !errors.Is(err, ErrLeak) {
		t.Errorf("Close = %v, want ErrLeak", err)
	}
}

func TestCacheDoesNotAllocate(t *testing.T) {
	m := newMemory(t, Options{Frames: 4096, Pages: Pages4K})
	c := m.NewCache(0)
	buf := make([]uint64, 64)
	if n := testing.AllocsPerRun(10, func() {
		for range 20 {
			addr, _ := c.Get()
			n := c.GetN(buf)
			c.PutN(buf[:n])
			c.Put(addr)
		}
	}); n != 0 && !m.Verifying() {
		t.Errorf("%v allocations, want none", n)
	}
	c.Close()
}

func BenchmarkCacheGetPut(b *testing.B) {
	m := newMemory(b, Options{Pages: Pages4K})
	c := m.NewCache(0)
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		addr, _ := c.Get()
		c.Put(addr)
	}
}

func BenchmarkCacheGetPut64(b *testing.B) {
	m := newMemory(b, Options{Pages: Pages4K})
	c := m.NewCache(0)
	defer c.Close()
	buf := make([]uint64, 64)
	b.ReportAllocs()
	for b.Loop() {
		n := c.GetN(buf)
		c.PutN(buf[:n])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/frame")
}
