package stages

import "hash/maphash"

// A bucketTable keeps buckets by key, so many and no more: all its memory is
// allocated at the start. It is set-associative: a key's bucket can be in one of
// the eight places of one set. When all are taken by others, the one that is
// nearest to full makes room. If it is full by now, nothing is lost: a new bucket is
// full as well. Otherwise its key gets back what it had used, which is the least
// of all in the set: keys that come up in masses, with a packet each, push out
// each other and not those who are over their rate.
type bucketTable struct {
	sets []bucketSet
	// seed is random, so that nobody outside can choose keys that meet in a set.
	seed maphash.Seed

	used, recycled, evicted uint64
}

const setSize = 8

// A bucketSet is three cache lines.
type bucketSet struct {
	keys    [setSize]uint64 // 0: free
	buckets [setSize]bucket
}

// newBucketTable returns a table for so many keys, rounded up to whole sets.
func newBucketTable(keys int) *bucketTable {
	t := &bucketTable{sets: make([]bucketSet, (keys+setSize-1)/setSize), seed: maphash.MakeSeed()}
	for i := range t.sets {
		for j := range setSize {
			t.sets[i].buckets[j].full = fullForever
		}
	}
	return t
}

// key returns the key of what tells one bucket from another under a rule, as a
// hash: that two have the same is as good as impossible (2⁻⁶⁴).
func (t *bucketTable) key(what []byte, rule int) uint64 {
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio
	return max(maphash.Bytes(t.seed, what)^uint64(rule)*odd, 1)
}

// set returns the set of a key.
func (t *bucketTable) set(key uint64) *bucketSet {
	return &t.sets[(key>>32)*uint64(len(t.sets))>>32]
}

// find returns the key's bucket, a new one if it has none.
func (t *bucketTable) find(key uint64, now int64) *bucket {
	s := t.set(key)
	for i := range s.keys {
		if s.keys[i] == key {
			return &s.buckets[i]
		}
	}
	return t.replace(s, key, now)
}

// replace gives the key the place whose bucket is nearest to full.
func (t *bucketTable) replace(s *bucketSet, key uint64, now int64) *bucket {
	at := 0
	for i := range s.buckets {
		if s.buckets[i].full < s.buckets[at].full {
			at = i
		}
	}
	b := &s.buckets[at]
	switch {
	case s.keys[at] == 0:
		t.used++
	case b.full < now || b.full == now && b.part == 0:
		t.recycled++
	default:
		t.evicted++
	}
	s.keys[at] = key
	*b = bucket{full: now}
	return b
}
