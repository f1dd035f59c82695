package acl

import "github.com/xdpipe/xdpipe/pipeline"

// An entry is a box to compare with: the bits of addresses that it gives, and the
// range of word 1.
type entry4 struct {
	value, mask uint64
	low, high   uint64
	verdict     Verdict
	more        uint32 // 1 if another entry of the leaf follows
}

// An entry6 is an entry4 with addresses of IPv6.
type entry6 struct {
	value, mask [4]uint64
	low, high   uint64
	verdict     Verdict
	more        uint32
}

func newEntry4(f fields, b *box, more uint32) entry4 {
	e := entry4{verdict: b.verdict, more: more}
	for i := range f[:len(f)-sharedFields] {
		v, m := b.given(f, i)
		e.value, e.mask = e.value|v, e.mask|m
	}
	e.low, e.high = b.misc(f)
	return e
}

func newEntry6(f fields, b *box, more uint32) entry6 {
	e := entry6{verdict: b.verdict, more: more}
	for i := range 4 {
		e.value[i], e.mask[i] = b.given(f, i)
	}
	e.low, e.high = b.misc(f)
	return e
}

// Match decides on up to Chunk packets of the batch, from the first on, and returns
// how many. Their verdicts are in sc.Verdicts. Packets that were not parsed it
// parses.
func (s *Set) Match(b *pipeline.Batch, first int, sc *Scratch) int {
	n := sc.sort(b, first)
	matchLane(s.ipv4, &sc.ipv4, &sc.Verdicts, match4)
	matchLane(s.ipv4Later, &sc.ipv4Later, &sc.Verdicts, match4)
	matchLane(s.other, &sc.other, &sc.Verdicts, match4)
	matchLane(s.ipv6, &sc.ipv6, &sc.Verdicts, match6)
	matchLane(s.ipv6Later, &sc.ipv6Later, &sc.Verdicts, match6)
	return n
}

// matchLane finds the verdicts of the packets in a lane.
func matchLane[E, K any](t table[E], l *lane[K], verdicts *[Chunk]Verdict, match func(*tree[E], *lane[K])) {
	if l.n == 0 {
		return
	}
	best := l.best[:l.n]
	for i := range best {
		best[i] = NoMatch
	}
	for i := range t {
		match(&t[i], l)
	}
	for i, v := range best {
		verdicts[l.at[i]&(Chunk-1)] = v
	}
}

// A search is a key, in the low bits, and the entry that it is to be compared with.
type search uint64

const searchKey = 8 // bits for the key

// The functions below lower l.best to the verdict of the first rule of the tree
// that matches, for each key. They have hardly a branch that depends on a key, since
// the CPU would guess every other one wrong and wait for memory at each: first all
// keys walk to their leaves, then all are compared with the first entry of theirs,
// those that go on with the second, and so on.

func match4(t *tree[entry4], l *lane[key4]) {
	nodes, entries := t.nodes, t.entries
	searches := 0
	for i := range l.keys[:l.n] {
		k := &l.keys[i]
		n := nodes[0]
		for range t.steps {
			n = nodes[n.base()+uint32(k[n.word()&3]>>n.shift())&n.mask()]
		}
		for n.word() != leafWord {
			n = nodes[n.base()+uint32(k[n.word()&3]>>n.shift())&n.mask()]
		}
		l.searches[searches&(Chunk-1)] = search(n.first())<<searchKey | search(i)
		searches += int(nonZero(uint64(n.first())))
	}
	for searches > 0 {
		left := 0
		for j := range l.searches[:searches] {
			s := l.searches[j]
			e := &entries[s>>searchKey]
			i := s & (Chunk - 1)
			k := &l.keys[i]
			differs := nonZero((k[0]^e.value)&e.mask | outside(k[wordMisc], e.low, e.high))
			l.best[i] = min(l.best[i], e.verdict|Verdict(-differs)) // of one that differs NoMatch
			l.searches[left&(Chunk-1)] = s + 1<<searchKey
			left += int(differs & uint64(e.more) & below(e.verdict, l.best[i]))
		}
		searches = left
	}
}

func match6(t *tree[entry6], l *lane[key6]) {
	nodes, entries := t.nodes, t.entries
	searches := 0
	for i := range l.keys[:l.n] {
		k := &l.keys[i]
		n := nodes[0]
		for range t.steps {
			n = nodes[n.base()+uint32(k[n.word()]>>n.shift())&n.mask()]
		}
		for n.word() != leafWord {
			n = nodes[n.base()+uint32(k[n.word()]>>n.shift())&n.mask()]
		}
		l.searches[searches&(Chunk-1)] = search(n.first())<<searchKey | search(i)
		searches += int(nonZero(uint64(n.first())))
	}
	for searches > 0 {
		left := 0
		for j := range l.searches[:searches] {
			s := l.searches[j]
			e := &entries[s>>searchKey]
			i := s & (Chunk - 1)
			k := &l.keys[i]
			differs := nonZero((k[0]^e.value[0])&e.mask[0] | (k[2]^e.value[1])&e.mask[1] |
				(k[3]^e.value[2])&e.mask[2] | (k[4]^e.value[3])&e.mask[3] |
				outside(k[wordMisc], e.low, e.high))
			l.best[i] = min(l.best[i], e.verdict|Verdict(-differs))
			l.searches[left&(Chunk-1)] = s + 1<<searchKey
			left += int(differs & uint64(e.more) & below(e.verdict, l.best[i]))
		}
		searches = left
	}
}

// below returns 1 if a is below b: entries after a do not matter otherwise.
func below(a, b Verdict) uint64 { return (uint64(a) - uint64(b)) >> 63 }

// nonZero returns 1 if x is not 0.
func nonZero(x uint64) uint64 { return (x | -x) >> 63 }
