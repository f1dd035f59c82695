package stages

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// A bucketTable keeps buckets by key, so many and no more: all its memory is
// allocated at the start. It is set-associative: a key's bucket can be in one of
// the eight places of one set. When all are taken by others, the one that is
// nearest to full makes room. If it is full by now, nothing is lost: a new bucket is
// full as well. Otherwise its key gets back what it had used, which is the least
// of all in the set: keys that come up in masses, with a packet each, push out
// each other and not those who are over their rate.
//
// In a set, keys are told apart by 32 bits: of new keys one in half a billion is
// taken for another one.
type bucketTable struct {
	sets []bucketSet
	// random keys the hash, so that nobody outside can choose keys that meet in a set.
	random [4]uint64

	used, recycled, evicted uint64
}

const setSize = 8

// A bucketSet is two cache lines.
type bucketSet struct {
	tags [setSize]uint32 // the key's lower half; 0: free
	part [setSize]uint32 // of the buckets
	full [setSize]int64
}

// newBucketTable returns a table for so many keys, rounded up to whole sets.
func newBucketTable(keys int) *bucketTable {
	t := &bucketTable{sets: make([]bucketSet, (keys+setSize-1)/setSize)}
	var random [32]byte
	rand.Read(random[:]) // never fails
	for i := range t.random {
		t.random[i] = binary.NativeEndian.Uint64(random[8*i:])
	}
	for i := range t.sets {
		for j := range setSize {
			t.sets[i].full[j] = fullForever
		}
	}
	return t
}

// A bucketKey is a hash of what tells one bucket from another. The upper half
// chooses the set, the lower is the tag, which is not 0.
type bucketKey uint64

// key returns the key of two words under a limit.
func (t *bucketTable) key(a, b uint64, limit uint64) bucketKey {
	x := fold(a^t.random[0], b^t.random[1])
	x = fold(x^t.random[2], t.random[3]+limit)
	if uint32(x) == 0 {
		x++
	}
	return bucketKey(x)
}

// fold multiplies and keeps what both halves of the product say.
func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// set returns the set of a key.
func (t *bucketTable) set(key bucketKey) *bucketSet {
	return &t.sets[uint64(key>>32)*uint64(len(t.sets))>>32]
}

// touch makes the memory of the keys' sets come into the cache. The accesses do not
// wait for each other, as those of find would.
func (t *bucketTable) touch(keys []bucketKey) (sum int64) {
	for _, k := range keys {
		s := t.set(k)
		sum += int64(s.tags[0]) + s.full[0]
	}
	return sum
}

// place returns the key's place in its set; it makes one if there is none, with a
// bucket that is full now.
func (t *bucketTable) place(s *bucketSet, key bucketKey, now int64) int {
	tag, at := uint32(key), setSize
	// All eight, with conditional moves: where the key is found would be a branch that
	// is mispredicted.
	for i := range s.tags {
		if s.tags[i] == tag {
			at = i
		}
	}
	if at < setSize {
		return at
	}
	return t.replace(s, tag, now)
}

// replace gives the key the place whose bucket is nearest to full.
func (t *bucketTable) replace(s *bucketSet, tag uint32, now int64) int {
	at := 0
	for i := range s.full {
		if s.full[i] < s.full[at] {
			at = i
		}
	}
	switch full := s.full[at]; {
	case s.tags[at] == 0:
		t.used++
	case full < now || full == now && s.part[at] == 0:
		t.recycled++
	default:
		t.evicted++
	}
	s.tags[at], s.full[at], s.part[at] = tag, now, 0
	return at
}
