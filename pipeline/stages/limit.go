package stages

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/xdpipe/xdpipe/internal/rate"
)

// A bucket is the state of a token bucket as one point in time: when it will be
// full. A packet moves that point away by the time its tokens take to flow in; it
// passes if the point is then no further ahead than a whole burst takes. The
// point is exact: full nanoseconds and part of the limit's parts of another one.
type bucket struct {
	full int64  // ns, on the clock of the packets' arrival
	part uint32 // below limit.per
}

// fullForever is the full of a bucket that no packet has met: long ago, but not so
// long that differences overflow. Clocks must keep as far from their ends.
const fullForever = math.MinInt64 / 2

// A limit is a rate and a burst, prepared so that a packet takes a few
// multiplications. All times are in nanoseconds and in fractions of 1/per of
// one, without rounding.
type limit struct {
	cost    uint64 // what a packet or byte takes to flow in, in 1/per ns
	per     uint64 // below 2³²
	inverse uint64 // (2⁶⁴−1)/per, to divide by multiplying
	bytes   bool   // bytes count, not packets
	burst   int64  // what a burst takes to flow in: ns
	part    uint64 // and 1/per ns, below per

	passed, exceeded uint64
}

// The bursts that are used where none is given, and the least, so that packets
// can pass at all: one packet, or the bytes of a packet of common size.
const (
	defaultBurst = 100 * time.Millisecond
	leastBytes   = 10_000
	longestBurst = 365 * 24 * time.Hour
)

// newLimit returns the limit for one of so many workers that share the rate; for
// no limit the zero value, which is not to be used.
func newLimit(r rate.Rate, b Burst, workers int) (limit, error) {
	if r.Unit == rate.Unlimited {
		return limit{}, nil
	}
	l := limit{cost: 1e9, per: r.N, bytes: r.Unit == rate.Bits}
	unit := BurstPackets
	if l.bytes {
		l.cost, unit = 8e9, BurstBytes // 8 bits
	}
	if b.Count > 0 && b.Unit != BurstAny && b.Unit != unit {
		if l.bytes {
			return l, fmt.Errorf("the rate %v is in bits and the burst in packets; want bytes such as 64KB, or a time such as 50ms", r)
		}
		return l, fmt.Errorf("the rate %v is in packets and the burst in bytes; want packets such as 100p, or a time such as 50ms", r)
	}
	// The share of a worker takes a packet longer to flow in. A burst, shared as
	// well, takes the same time.
	common := gcd(l.cost*uint64(workers), l.per)
	whole := l.cost
	l.cost, l.per = l.cost*uint64(workers)/common, l.per/common
	// Rates that are neither round nor below 4 G are rounded here: up to 2 T by less
	// than a billionth.
	if more := bits.Len64(l.per) - 32; more > 0 {
		l.cost, l.per = (l.cost+1<<(more-1))>>more, l.per>>more
	}
	l.inverse = math.MaxUint64 / l.per

	least := uint64(1)
	if l.bytes {
		least = leastBytes
	}
	switch {
	case b.Count > 0:
		high, low := bits.Mul64(b.Count, whole)
		if high >= r.N {
			return l, errLongBurst(r)
		}
		ns, rest := bits.Div64(high, low, r.N)
		if ns > uint64(longestBurst) {
			return l, errLongBurst(r)
		}
		// Rounded down to what buckets can tell apart, which changes no decision.
		high, low = bits.Mul64(rest, l.per)
		part, _ := bits.Div64(high, low, r.N)
		l.burst, l.part = int64(ns), part
		least = min(least, b.Count)
	case b.Time > longestBurst:
		return l, errLongBurst(r)
	default:
		l.burst = int64(b.Time)
		if b.Time == 0 {
			l.burst = int64(defaultBurst)
		}
	}
	// Of a worker's share a packet must still be able to pass.
	if ns, part := l.time(least); int64(ns) > l.burst || int64(ns) == l.burst && part > l.part {
		l.burst, l.part = int64(ns), part
	}
	return l, nil
}

func errLongBurst(r rate.Rate) error {
	return fmt.Errorf("at the rate %v the burst takes more than a year to fill; want a smaller one", r)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// time returns how long n packets or bytes take to flow in: nanoseconds, and the
// rest in 1/per ns.
func (l *limit) time(n uint64) (ns, part uint64) {
	work := n * l.cost // no overflow: 2³³ a byte, times workers, and a packet is of 18 frames at most
	// The inverse is rounded down, by so little that the quotient is at most one
	// too small.
	ns, _ = bits.Mul64(work, l.inverse)
	part = work - ns*l.per
	if part >= l.per {
		ns, part = ns+1, part-l.per
	}
	return ns, part
}

// take takes what a packet of so many bytes costs out of the bucket, if there is
// enough in it, and returns what is then in it.
func (l *limit) take(b bucket, now int64, size int) (after bucket, ok bool) {
	ahead, part := b.full-now, uint64(b.part)
	if ahead < 0 {
		ahead, part = 0, 0
	} else if ahead > l.burst || ahead == l.burst && part > l.part {
		// Emptier than empty: the clock went back. From here it fills as ever.
		ahead, part = l.burst, l.part
		b = bucket{now + ahead, uint32(part)}
	}
	n := uint64(1)
	if l.bytes {
		n = uint64(size)
	}
	ns, rest := l.time(n)
	if part += rest; part >= l.per {
		ns, part = ns+1, part-l.per
	}
	ahead += int64(ns)
	if ahead > l.burst || ahead == l.burst && part > l.part {
		l.exceeded++
		return b, false
	}
	l.passed++
	return bucket{now + ahead, uint32(part)}, true
}
