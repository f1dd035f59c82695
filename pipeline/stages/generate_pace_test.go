package stages

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/xdpipe/xdpipe/internal/rate"
	"github.com/xdpipe/xdpipe/pipeline"
)

// run lets the stage make packets as an engine would whose clock steps so far at
// least, from one time to the other. It returns what there was of packets, and the
// bits that they count.
func (m *mint) run(from, to, step int64) (packets int, bits uint64) {
	overhead := 4
	if m.Layer == "l1" {
		overhead = 24
	}
	for now := from; ; now = min(max(now+step, m.Due()), to) {
		for m.Due() <= now {
			packets += m.count(now)
			for i := range m.batch.Len() {
				bits += 8 * uint64(m.batch.Size(i)+overhead)
			}
		}
		if now == to {
			return packets, bits
		}
	}
}

func TestGenerateMakesWhatTheRateIsWorthInASecond(t *testing.T) {
	t.Setenv("XDPIPE_VERIFY", "") // the ledger would take most of the time
	const start, second = 5_000_000_123, 1_000_000_000
	for _, tc := range []struct {
		options string
		want    int // packets, of 1 fewer or more
	}{
		{"rate=1pps", 1},
		{"rate=7pps", 7},
		{"rate=999pps", 999},
		{"rate=100kpps", 100_000},
		{"rate=333333pps", 333_333},
		{"rate=100kpps size=imix", 100_000},
		// A frame of 64 bytes is 512 bits, and 672 on the wire with preamble and gap.
		{"rate=100Mbps size=64", 195_312},
		{"rate=100Mbps size=64 layer=l1", 148_809}, // what Fast Ethernet does
		{"rate=1Gbps size=64 layer=l1", 1_488_095}, // what Gigabit Ethernet does
		{"rate=1Gbps size=1518 layer=l1", 81_274},
		{"rate=1Gbps size=1518 layer=l2", 82_345},
		{"rate=10Mbps size=64,1000 layer=l1", 2264},
		{"rate=500Mbps size=imix", 172_731},          // 12 in (7·64 + 4·594 + 1518)·8 bits
		{"rate=500Mbps size=imix layer=l1", 163_684}, // 12 in (7·84 + 4·614 + 1538)·8 bits
		{"rate=100Mbps size=64-1518", 15_803},
	} {
		for _, step := range []int64{1, 20_000} {
			m := newMint(t, tc.options)
			got, bits := m.run(start, start+second-1, step)
			if m.Rate.Unit == rate.Packets {
				if got < tc.want-1 || got > tc.want+1 {
					t.Errorf("%s, a clock that steps by %d: %d packets in a second, want %d", tc.options, step, got, tc.want)
				}
			} else {
				if longest := 8 * uint64(m.sizes[len(m.sizes)-1].n+24); bits+longest < m.Rate.N || bits > m.Rate.N+longest {
					t.Errorf("%s, a clock that steps by %d: %d bits in a second", tc.options, step, bits)
				}
				// Of a mix, what is left of a cycle is of other sizes than the mean.
				if slack := len(m.sizes)/2 + 1; got < tc.want-slack || got > tc.want+slack {
					t.Errorf("%s, a clock that steps by %d: %d packets in a second, want %d", tc.options, step, got, tc.want)
				}
			}
			if r := m.Report(); r["late"] != 0 || r["sent"] != uint64(got) {
				t.Errorf("%s, a clock that steps by %d: reports %v", tc.options, step, r)
			}
		}
	}
}

func TestGenerateMakesUpForABurstAfterAStall(t *testing.T) {
	for _, tc := range []struct {
		options string
		burst   int
	}{
		{"rate=1Mpps", 64},
		{"rate=1Mpps size=64,1518", 64},
		{"rate=1Mpps burst=1", 1},
		{"rate=1Mpps burst=256", 256},
		{"rate=1Mpps burst=700", 700}, // several batches
		{"rate=1Gbps size=64-1518 burst=32", 32},
		{"rate=1Gbps size=3844,64 burst=33", 33},
		{"rate=3333333333bps size=imix layer=l1", 64},
	} {
		m := newMint(t, tc.options)
		m.count(0)
		for _, stall := range []int64{10e6, 1e9, 1e9 - 1, 3600e9} {
			before := m.pace.late
			now := m.Due() + stall
			got := 0
			for m.Due() <= now {
				got += m.count(now)
			}
			// Of a mix and bits, what is missed may be longer than what is sent.
			exact := m.Rate.Unit == rate.Packets || len(m.sizes) == 1
			if late := m.pace.late - before; got > tc.burst || exact && got < tc.burst || got < tc.burst/2 || late == 0 {
				t.Errorf("%s: %d packets after a stall of %d ns, and %d late; want %d", tc.options, got, stall, late, tc.burst)
			}
		}
	}
}

func TestGenerateCountsEverySlotAsSentOrLate(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, tc := range []struct {
		options   string
		slots, in uint64 // so many in so many nanoseconds
	}{
		{"rate=1Mpps", 1, 1000},
		{"rate=333333pps burst=5", 333_333, 1e9},
		{"rate=7777777pps burst=100", 7_777_777, 1e9},
		{"rate=1Gbps layer=l1", 1, 672},
	} {
		m := newMint(t, tc.options)
		now := int64(0)
		for range 3000 {
			for m.Due() <= now {
				m.count(now)
			}
			// Those that begin before the nanosecond ends, the first one at 0.
			slots := (uint64(now+1)*tc.slots + tc.in - 1) / tc.in
			if got := m.Report()["intended"]; got != slots || m.sent+m.pace.late != slots {
				t.Fatalf("%s: after %d ns %d sent and %d late, want %d slots", tc.options, now, m.sent, m.pace.late, slots)
			}
			now += random.Int64N(1 << (8 + random.IntN(16)))
			if random.IntN(4) == 0 {
				now += 999 - now%1000 // just before a slot of the first
			}
		}
		if m.sent == 0 || m.pace.late == 0 {
			t.Errorf("%s: %d sent and %d late say nothing", tc.options, m.sent, m.pace.late)
		}
	}
}

// naivePace is a pace in exact fractions, slot by slot.
type naivePace struct {
	next  *big.Rat
	costs []*big.Rat
	burst int
	late  uint64
}

func (p *naivePace) catchUp(now int64, at int) {
	begun := func() (n int) {
		for t, i := new(big.Rat).Set(p.next), at; floor(t) <= now; i++ {
			n++
			t.Add(t, p.costs[i%len(p.costs)])
		}
		return n
	}
	start := new(big.Rat).Set(p.next)
	n := begun()
	for i := range n - p.burst {
		start.Add(start, p.costs[(at+i)%len(p.costs)])
		p.late++
	}
	p.next = start
	for begun() > p.burst {
		p.next.Add(p.next, big.NewRat(1, 1)) // a whole nanosecond; close enough for what follows
	}
}

func (p *naivePace) step(at int) { p.next = new(big.Rat).Add(p.next, p.costs[at]) }

func floor(r *big.Rat) int64 { return new(big.Int).Div(r.Num(), r.Denom()).Int64() }

func TestPaceIsThatOfExactFractions(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 25 {
		sizes := make([]int, 1+random.IntN(5))
		for i := range sizes {
			sizes[i] = 60 + random.IntN(1500)
		}
		r := rate.Rate{N: 1_000_000 + random.Uint64N(3_000_000), Unit: rate.Packets}
		if random.IntN(2) > 0 {
			r = rate.Rate{N: 1_000_000_000 + random.Uint64N(9_000_000_000), Unit: rate.Bits}
		}
		layer1, burst := random.IntN(2) > 0, 1+random.IntN(20)
		p := newPace(r, layer1, burst, sizes)
		exact := &naivePace{next: new(big.Rat), burst: burst}
		for _, n := range sizes {
			units := int64(1e9)
			if r.Unit == rate.Bits {
				units *= int64(n+4) * 8
				if layer1 {
					units += 20 * 8 * 1e9
				}
			}
			exact.costs = append(exact.costs, big.NewRat(units, int64(r.N)))
		}
		what := fmt.Sprintf("%v, layer 1 %v, burst %d, sizes %v", r, layer1, burst, sizes)
		now, at := int64(0), 0
		p.catchUp(now, at)
		for range 200 {
			p.catchUp(now, at)
			exact.catchUp(now, at)
			if p.late != exact.late {
				t.Fatalf("%s: %d late after %d ns, want %d", what, p.late, now, exact.late)
			}
			if d := p.next - floor(exact.next); d < -1 || d > 1 {
				t.Fatalf("%s: next at %d after %d ns, want %d", what, p.next, now, floor(exact.next))
			}
			exact.next.SetFrac(new(big.Int).Add(new(big.Int).Mul(big.NewInt(p.next), big.NewInt(int64(r.N))), new(big.Int).SetUint64(p.frac)), big.NewInt(int64(r.N)))
			for sent := 0; p.next <= now && sent < 1+random.IntN(30); sent++ {
				p.step(at)
				exact.step(at)
				at = (at + 1) % len(sizes)
				if p.next != floor(exact.next) {
					t.Fatalf("%s: next at %d, want %d", what, p.next, floor(exact.next))
				}
			}
			now += random.Int64N(30_000)
		}
	}
}

func TestGenerateIsDueWhenItsNextSlotBegins(t *testing.T) {
	m := newMint(t, "rate=3pps")
	if m.Due() > 0 {
		t.Errorf("due at %d before the first packet, want at once", m.Due())
	}
	m.count(1000) // the first one begins it all
	for _, due := range []int64{333_334_333, 666_667_666, 1_000_001_000, 1_333_334_333} {
		if m.Due() != due {
			t.Errorf("due at %d, want %d", m.Due(), due)
		}
		if n := m.count(due - 1); n != 0 {
			t.Errorf("%d packets before the slot at %d", n, due)
		}
		if n := m.count(due); n != 1 {
			t.Errorf("%d packets in the slot at %d, want 1", n, due)
		}
	}
	m = newMint(t, "rate=max")
	for range 3 {
		if n := m.count(5); m.Due() > 0 || n != pipeline.MaxBatch {
			t.Errorf("%d packets, and due at %d; want a batch at once, again and again", n, m.Due())
		}
	}
}
