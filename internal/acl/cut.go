package acl

import "math"

// A cut divides boxes by some bits of a field.
type cut struct {
	field       int
	shift, bits uint8
	limit       uint64 // boxes that are on more than so many other sides go to another tree
}

func (c cut) mask() uint64 { return 1<<c.bits - 1 }

// span returns the first side of the cut that the box is on, and on how many more
// it is, from there upwards and round.
func (c cut) span(b *box) (first, more uint64) {
	lo, hi := b.lo[c.field]>>c.shift, b.hi[c.field]>>c.shift
	return lo & c.mask(), min(hi-lo, c.mask())
}

// What the costs of cuts are made of, in boxes that a key is compared with. They were
// found by measuring sets of 10,000 realistic rules.
const (
	putOffBase = 2   // what it costs to put boxes off to a later tree
	putOffCost = 0.5 // and for each of them
	putOffFrom = 64  // boxes: shorter lists put none off
	nodeCost   = 0.2 // for each node a box
	wideSides  = 8   // boxes on more than this part of the sides are wide
	worthwhile = 0.7 // a cut has to leave less than this part of the boxes
)

// choose returns the cut that leaves the fewest boxes to compare with, and whether
// there is one that is worth it.
func (b *builder) choose(list []uint32, maxNodes, growth int, sampled bool) (best cut, found bool) {
	// Of long lists a sample says enough. It is smaller where there are more cuts to
	// choose from.
	sample := list
	if size := sampleSize / (len(b.fields) - sharedFields); sampled && len(list) > size {
		sample = b.chosen[:0]
		for i := range size {
			sample = append(sample, list[i*len(list)/size])
		}
		b.chosen = sample
	}
	scale := float64(len(list)) / float64(len(sample))
	most := uint8(1)
	for most < maxCut && 1<<most < 2*len(list) && 2<<most < maxNodes {
		most++
	}
	putOff := !b.last && len(list) >= putOffFrom
	least := worthwhile * float64(len(list))
	for f := range b.fields {
		varying := b.varying(sample, f)
		if varying == 0 {
			continue
		}
		for shift := range b.fields[f].width {
			if varying>>shift&1 == 0 {
				continue
			}
			for bits := most; bits > 0; bits-- {
				top := shift + bits - 1
				if top >= b.fields[f].width || varying>>top&1 == 0 || bits < most && bits != most/2 && bits > 1 {
					continue
				}
				c := cut{field: f, shift: shift, bits: bits}
				if cost := b.cost(sample, &c, scale, float64(growth+len(list)), putOff); cost < least {
					best, least, found = c, cost, true
				}
			}
		}
	}
	return best, found
}

// varying returns the bits of the field in which boxes differ.
func (b *builder) varying(sample []uint32, f int) uint64 {
	first := &b.boxes[sample[0]]
	bits := uint64(0)
	for _, i := range sample {
		lo, hi := b.boxes[i].lo[f], b.boxes[i].hi[f]
		bits |= (lo ^ first.lo[f]) | (hi ^ first.hi[f])
	}
	return bits
}

// cost is how many boxes there are to compare with after the cut, for a key that
// is in a box: those are more often where there are more boxes. most is how many
// boxes there may be on all sides together, and putOff whether some may be put off. It
// sets c.limit to what costs least.
func (b *builder) cost(sample []uint32, c *cut, scale, most float64, putOff bool) float64 {
	narrow, wide := b.narrow[:c.mask()+2], b.wide[:c.mask()+2] // differences from one side to the next
	clear(narrow)
	clear(wide)
	everywhere, narrows, wides, narrowSum, wideSum := uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)
	for _, i := range sample {
		first, more := c.span(&b.boxes[i])
		if more == c.mask() {
			everywhere++
			continue
		}
		cells := narrow
		if more > c.mask()/wideSides {
			cells = wide
			wides++
			wideSum += more + 1
		} else {
			narrows++
			narrowSum += more + 1
		}
		end := first + more + 1
		cells[first]++
		if end > c.mask()+1 {
			cells[0]++
			end -= c.mask() + 1
		}
		cells[end]--
	}
	if narrows+wides == 0 {
		return math.Inf(1)
	}
	haveNarrow, haveWide := uint64(0), uint64(0)
	narrowSquares, allSquares := uint64(0), uint64(0)
	for i := range narrow[:c.mask()+1] {
		haveNarrow += narrow[i]
		haveWide += wide[i]
		narrowSquares += haveNarrow * haveNarrow
		allSquares += (haveNarrow + haveWide) * (haveNarrow + haveWide)
	}
	sides := float64(c.mask() + 1)
	size := func(squares, sum, boxes uint64) float64 {
		size := float64(squares) / float64(sum) // of the side of a box
		if scale > 1 {
			// A sample seldom has two on one side: what it has beyond one scales.
			size = 1 + (size-1)*scale
		}
		replication := float64(sum) / float64(boxes)
		return size*replication + nodeCost*sides/(float64(boxes)*scale)
	}
	best := math.Inf(1)
	try := func(limit uint64, size float64, onSides, off uint64) {
		if off > 0 {
			if !putOff {
				return
			}
			size += putOffBase + putOffCost*float64(off)*scale
		}
		if float64(onSides)*scale <= most && size < best {
			best, c.limit = size, limit
		}
	}
	all := size(allSquares, narrowSum+wideSum, narrows+wides)
	try(c.mask(), all+float64(everywhere)*scale, narrowSum+wideSum+everywhere*(c.mask()+1), 0)
	try(c.mask()-1, all, narrowSum+wideSum, everywhere)
	if narrows > 0 {
		try(c.mask()/wideSides, size(narrowSquares, narrowSum, narrows), narrowSum, wides+everywhere)
	}
	return best
}
