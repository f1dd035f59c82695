package traffic

// sizePlan says how long each datagram is, and which one a datagram too short
// for a sequence number must be.
type sizePlan interface {
	size(seq uint64) int
	largest() int
	// short returns the sequence number of a datagram of size bytes, size
	// below sequenceSize, when expected is the number after the highest seen.
	// It is false if no datagram has that size.
	short(size int, expected, count uint64) (uint64, bool)
}

// fixedSize is the plan in which all datagrams are equally long, and long
// enough for a sequence number.
type fixedSize int

func (f fixedSize) size(uint64) int                          { return int(f) }
func (f fixedSize) largest() int                             { return int(f) }
func (f fixedSize) short(int, uint64, uint64) (uint64, bool) { return 0, false }

// variedSizes is the plan in which each cycle of max+1 datagrams has every size
// from 0 to max once, in an order known to both ends.
//
// Datagrams below eight bytes cannot carry a sequence number, and need none:
// the size alone says which place in the cycle a datagram has, and of the
// cycles, a thousand and more datagrams apart, it belongs to the one whose
// place is nearest to what is expected next. So each is accounted for like the
// others, unless the path loses or reorders half a cycle in one piece.
type variedSizes struct {
	walk  sizeWalk
	place [sequenceSize]uint64 // by size, the place in the cycle
	known [sequenceSize]bool
}

func newVariedSizes(max int) *variedSizes {
	v := &variedSizes{walk: newSizeWalk(max)}
	for seq := range v.walk.cycle {
		if size := v.walk.at(seq); size < sequenceSize {
			v.place[size], v.known[size] = seq, true
		}
	}
	return v
}

func (v *variedSizes) size(seq uint64) int { return v.walk.at(seq) }
func (v *variedSizes) largest() int        { return v.walk.max }

func (v *variedSizes) short(size int, expected, count uint64) (uint64, bool) {
	place, cycle := v.place[size], v.walk.cycle
	if !v.known[size] || place >= count {
		return 0, false
	}
	seq := place
	if expected > place {
		seq += (expected - place + cycle/2) / cycle * cycle
	}
	for seq >= count {
		seq -= cycle
	}
	return seq, true
}

// A sizeWalk visits every size from 0 to max once per cycle of max+1 packets,
// in an order that puts large beside small. It begins with max.
type sizeWalk struct {
	max    int
	cycle  uint64
	stride uint64
}

func newSizeWalk(max int) sizeWalk {
	n := uint64(max) + 1
	// About n over the golden ratio spreads best; coprime to n it visits all.
	stride := n*618/1000 + 1
	for gcd(stride, n) != 1 {
		stride++
	}
	return sizeWalk{max: max, cycle: n, stride: stride}
}

// at returns the size of packet seq in bytes.
func (w sizeWalk) at(seq uint64) int {
	return w.max - int(seq%w.cycle*w.stride%w.cycle)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
