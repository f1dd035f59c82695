package stages

import (
	"math/bits"

	"github.com/xdpipe/xdpipe/internal/rate"
)

// A pace says when the packets of a schedule are due: each has a slot, whose
// length is its share of a second, and the slots follow each other without gaps or
// rounding. Of slots that were missed at most burst are made up for.
//
// Lengths are in units of 1/rate nanoseconds, in which all of them are whole.
type pace struct {
	den   uint64 // units in a nanosecond: the rate; 0 is no limit
	burst int
	slots []slot // of the schedule, by position
	cycle uint64 // units of all slots

	shortest int64 // nanoseconds: no burst slots take less

	begun bool
	next  int64  // start of the next slot, on the engine's clock
	frac  uint64 // and units
	late  uint64 // slots missed
}

// A slot is the length of one, in units, and the same in nanoseconds and the units
// that are left.
type slot struct {
	units uint64
	ns    int64
	rest  uint64
}

// Bytes that a frame takes on the wire beyond those in memory: its FCS, and in
// layer 1 also the preamble with the start delimiter, 8, and the gap between
// frames, 12 (IEEE 802.3).
const (
	fcsBytes  = 4
	wireBytes = 8 + 12
)

// stallLimit is the longest stall that is accounted for, in nanoseconds: a quarter
// of an hour. It keeps the arithmetic below within its bounds.
const stallLimit = 1e12

// newPace returns the pace of packets of these sizes, in bytes without FCS, over
// and over.
func newPace(r rate.Rate, layer1 bool, burst int, sizes []int) pace {
	p := pace{burst: burst}
	if r.Unit == rate.Unlimited {
		return p
	}
	p.den = r.N
	p.slots = make([]slot, len(sizes))
	shortest := ^uint64(0)
	for i, n := range sizes {
		units := uint64(1e9)
		if r.Unit == rate.Bits {
			n += fcsBytes
			if layer1 {
				n += wireBytes
			}
			units *= uint64(n) * 8
		}
		p.slots[i] = slot{units, int64(units / p.den), units % p.den}
		p.cycle += units
		shortest = min(shortest, units)
	}
	hi, lo := bits.Mul64(shortest, uint64(burst))
	if ns, ok := divide(hi, lo, p.den); ok && ns < stallLimit {
		p.shortest = int64(ns)
	} else {
		p.shortest = stallLimit
	}
	return p
}

// divide is the quotient, if it fits.
func divide(hi, lo, by uint64) (uint64, bool) {
	if hi >= by {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, by)
	return q, true
}

// step goes to the end of the slot at the position.
func (p *pace) step(at int) {
	if p.den == 0 {
		return
	}
	s := &p.slots[at]
	p.next += s.ns
	if p.frac += s.rest; p.frac >= p.den {
		p.frac -= p.den
		p.next++
	}
}

// catchUp misses slots until at most burst have begun and were not used. The
// position stays: what was to be sent in those that are missed is sent later.
func (p *pace) catchUp(now int64, at int) {
	if p.den == 0 {
		return
	}
	if !p.begun {
		p.begun, p.next = true, now
		return
	}
	if now <= p.next || now-p.next < p.shortest {
		return
	}
	p.next = max(p.next, now-stallLimit)
	// A slot has begun when the nanosecond that it begins in has: behind goes up to
	// the end of now.
	hi, lo := bits.Mul64(uint64(now-p.next)+1, p.den)
	behind := wide{hi, lo}.minus(wide{0, p.frac + 1})
	depth := p.span(p.burst, at)
	if behind.less(depth) {
		return
	}
	begun := p.begunAfter(behind, at)
	p.late += begun - uint64(p.burst)
	missed := p.span(int(begun)-p.burst, at)
	// If those were shorter than the next burst's, more than a burst fits into what
	// is left.
	if rest := behind.minus(missed); !rest.less(depth) {
		missed = missed.plus(rest.minus(depth)).plus(wide{0, 1})
	}
	missed = missed.plus(wide{0, p.frac})
	ns, units := bits.Div64(missed.hi, missed.lo, p.den)
	p.next, p.frac = p.next+int64(ns), units
}

// span returns the length of n slots from the position on.
func (p *pace) span(n, at int) wide {
	hi, lo := bits.Mul64(uint64(n/len(p.slots)), p.cycle)
	w := wide{hi, lo}
	for range n % len(p.slots) {
		w = w.plus(wide{0, p.slots[at].units})
		at = (at + 1) % len(p.slots)
	}
	return w
}

// begunAfter returns how many slots have begun that long after the start of the
// one at the position.
func (p *pace) begunAfter(behind wide, at int) uint64 {
	cycles, rest := bits.Div64(behind.hi, behind.lo, p.cycle)
	n := cycles*uint64(len(p.slots)) + 1
	for rest >= p.slots[at].units {
		rest -= p.slots[at].units
		at = (at + 1) % len(p.slots)
		n++
	}
	return n
}

// A wide is a number of 128 bits.
type wide struct{ hi, lo uint64 }

func (a wide) plus(b wide) wide {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return wide{hi, lo}
}

func (a wide) minus(b wide) wide {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return wide{hi, lo}
}

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }
