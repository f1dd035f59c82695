package acl

import (
	"container/heap"
	"encoding/binary"
	"reflect"
	"slices"
)

// A tree leads from a key to the few entries that may match it. E is entry4 or
// entry6.
type tree[E any] struct {
	nodes   []node // from the root
	entries []E    // from the second on; the first one means none
	// steps is a depth that most leaves have: so far a walk does not ask whether it
	// has arrived.
	steps int
	least Verdict // of all entries
}

// A node of a tree takes bits of a word of the key as an index to its children. A
// leaf has entries; so that a walk can stay there without asking, it is its own only
// child: it takes a word of the key that is 0. From bit 0 on:
//
//	shift   6 bits
//	word    3
//	mask   12, or of a leaf its first entry, 23: more than MaxRules can have
//	base   from bit 32: the first child
type node uint64

const (
	leafWord = 7
	maxCut   = 12 // bits
)

func newNode(word, shift uint8, mask, base uint32) node {
	return node(shift) | node(word)<<6 | node(mask)<<9 | node(base)<<32
}

// newLeaf returns the leaf that is at the index self.
func newLeaf(self, first uint32) node { return leafWord<<6 | node(first)<<9 | node(self)<<32 }

func (n node) shift() uint8  { return uint8(n) & 63 }
func (n node) word() uint8   { return uint8(n>>6) & 7 }
func (n node) mask() uint32  { return uint32(n>>9) & (1<<maxCut - 1) }
func (n node) base() uint32  { return uint32(n >> 32) }
func (n node) first() uint32 { return uint32(n) >> 9 }

// Limits of trees. Raising them costs memory and gains little.
const (
	leafSize   = 5   // boxes that are better compared with than cut
	maxTrees   = 5   // of a table; the last one puts no box off
	sampleSize = 512 // boxes of a long list that are looked at, for each word of addresses
	fewLeaves  = 0.3 // the part of boxes that are at most tree.steps below the root

	entriesPerBox = 8 // of a tree, at most
	nodesPerBox   = 4
	freeEntries   = 4096 // and nodes, beyond that, so that small trees are not bounded
	sharedLists   = 4    // how many times more boxes the lists of a node may have if they are the same ones
)

// A builder makes one tree of boxes. It knows a tree as boxes and lists of their
// indices; entries are made of those at the end.
type builder struct {
	fields fields
	boxes  []box
	last   bool // no box can be put off

	nodes   []node
	listed  []listed // of all leaves, where the entries will be
	pending pendingNodes
	waiting int // boxes in the lists of pending
	copies  []nodeCopy

	known     map[string]uint32 // list to the node that has it
	putOff    []bool            // by box
	narrow    []uint64          // scratch of a cut's evaluation
	wide      []uint64
	chosen    []uint32 // scratch
	available int      // entries that may still be made
}

// A listed box is an entry that is to be made.
type listed struct{ box, more uint32 }

type pendingNode struct {
	slot uint32
	list []uint32
}

// pendingNodes are a heap with the longest list on top.
type pendingNodes []pendingNode

func (p pendingNodes) Len() int           { return len(p) }
func (p pendingNodes) Less(i, j int) bool { return len(p[i].list) > len(p[j].list) }
func (p pendingNodes) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *pendingNodes) Push(x any)        { *p = append(*p, x.(pendingNode)) }
func (p *pendingNodes) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

type nodeCopy struct{ to, from uint32 }

// build makes a tree of those boxes that are not put off, and returns the lists of
// its leaves and the boxes that are.
func (b *builder) build(list []uint32) (putOff []uint32) {
	b.known = map[string]uint32{listKey(list): 0}
	b.putOff = make([]bool, len(b.boxes))
	b.narrow, b.wide = make([]uint64, 1<<maxCut+1), make([]uint64, 1<<maxCut+1)
	b.available = entriesPerBox*len(list) + freeEntries
	maxNodes := nodesPerBox*len(list) + freeEntries
	b.nodes, b.listed = append(b.nodes, 0), append(b.listed, listed{})
	b.pending, b.waiting = pendingNodes{{slot: 0, list: list}}, len(list)
	// The longest lists first: where the limits are reached, none is much longer
	// than the others.
	for len(b.pending) > 0 {
		p := heap.Pop(&b.pending).(pendingNode)
		b.waiting -= len(p.list)
		if len(p.list) <= leafSize || !b.divide(p, maxNodes-len(b.nodes)) {
			b.leaf(p.slot, p.list)
		}
	}
	for _, c := range b.copies {
		b.nodes[c.to] = b.nodes[c.from]
		if n := b.nodes[c.to]; n.word() == leafWord {
			b.nodes[c.to] = newLeaf(c.to, n.first())
		}
	}
	for i, off := range b.putOff {
		if off {
			putOff = append(putOff, uint32(i))
		}
	}
	return putOff
}

func (b *builder) leaf(slot uint32, list []uint32) {
	if len(list) == 0 {
		b.nodes[slot] = newLeaf(slot, 0)
		return
	}
	b.nodes[slot] = newLeaf(slot, uint32(len(b.listed)))
	for _, i := range list {
		b.listed = append(b.listed, listed{i, 1})
	}
	b.listed[len(b.listed)-1].more = 0
}

// divide makes the node of the list, and its children, if there is a cut that is
// worth it and within the limits.
func (b *builder) divide(p pendingNode, maxNodes int) bool {
	// Of what there is for all lists a fair part, and not all at once.
	growth := max(0, b.available) * len(p.list) / (2 * (b.waiting + len(p.list)))
	for _, sampled := range []bool{true, false} {
		c, found := b.choose(p.list, maxNodes, growth, sampled)
		if !found {
			return false
		}
		if b.cut(p, c, growth) {
			return true
		}
		// It looked smaller in the sample than it is.
	}
	return false
}

// cut makes the node of the list by the cut, and its children, unless those have
// that many more boxes than the list.
func (b *builder) cut(p pendingNode, c cut, most int) bool {
	total := 0
	for _, i := range p.list {
		if _, more := c.span(&b.boxes[i]); more <= c.limit {
			total += int(more) + 1
		}
	}
	if total > len(p.list)+sharedLists*most {
		return false
	}
	// Count first, so that the children's lists are one allocation.
	sides := 1 << c.bits
	counts := make([]uint32, sides+1)
	for _, i := range p.list {
		first, more := c.span(&b.boxes[i])
		if more > c.limit {
			continue
		}
		for j := range more + 1 {
			counts[(first+j)&c.mask()+1]++
		}
	}
	for i := range sides {
		counts[i+1] += counts[i]
	}
	all := make([]uint32, total)
	next := slices.Clone(counts)
	for _, i := range p.list {
		first, more := c.span(&b.boxes[i])
		if more > c.limit {
			continue
		}
		for j := range more + 1 {
			child := (first + j) & c.mask()
			all[next[child]] = i
			next[child]++
		}
	}
	child := func(i int) []uint32 { return all[counts[i]:counts[i+1]:counts[i+1]] }
	// The same boxes make the same subtree: it depends on nothing else. But one with
	// all of the node's boxes would be cut in the same place, and is a leaf.
	same := func(i int) bool { return len(child(i)) == len(p.list) }
	growth, hasSame := -len(p.list), false
	fresh := map[string]bool{}
	names := make([]string, sides)
	for i := range sides {
		if same(i) {
			hasSame = true
			continue
		}
		names[i] = listKey(child(i))
		_, known := b.known[names[i]]
		if !known && !fresh[names[i]] {
			growth += len(child(i))
			fresh[names[i]] = true
		}
	}
	if hasSame {
		growth += len(p.list)
	}
	if growth > most {
		return false
	}
	b.available -= growth
	f := b.fields[c.field]
	base := uint32(len(b.nodes))
	b.nodes[p.slot] = newNode(f.word, f.shift+c.shift, uint32(c.mask()), base)
	b.nodes = append(b.nodes, make([]node, sides)...)
	leaf := node(0)
	for i, name := range names {
		slot := base + uint32(i)
		from, known := b.known[name]
		switch {
		case same(i) && leaf == 0:
			b.leaf(slot, p.list)
			leaf = b.nodes[slot]
		case same(i):
			b.nodes[slot] = newLeaf(slot, leaf.first())
		case known:
			b.copies = append(b.copies, nodeCopy{slot, from})
		default:
			b.known[name] = slot
			heap.Push(&b.pending, pendingNode{slot, child(i)})
			b.waiting += len(child(i))
		}
	}
	if c.limit < c.mask() {
		for _, i := range p.list {
			if _, more := c.span(&b.boxes[i]); more > c.limit && !b.putOff[i] {
				b.putOff[i] = true
				b.available -= entriesPerBox // they are for the tree that has it
			}
		}
	}
	return true
}

// listKey is the list as the key of a map.
func listKey(list []uint32) string {
	b := make([]byte, 0, 4*len(list))
	for _, i := range list {
		b = binary.NativeEndian.AppendUint32(b, i)
	}
	return string(b)
}

// depth returns how many steps the given part of the boxes, of which there is at least
// one, are below the root at most.
func (b *builder) depth(part float64) int {
	var depths []int
	for _, l := range b.listed[1:] {
		var k key6
		for i, f := range b.fields {
			k[f.word] |= b.boxes[l.box].lo[i] << f.shift
		}
		d, n := 0, b.nodes[0]
		for ; n.word() != leafWord; d++ {
			n = b.nodes[n.base()+uint32(k[n.word()]>>n.shift())&n.mask()]
		}
		depths = append(depths, d)
	}
	slices.Sort(depths)
	return depths[int(float64(len(depths)-1)*part)]
}

// size returns the bytes the tree occupies.
func (t *tree[E]) size() int {
	return len(t.nodes)*int(reflect.TypeFor[node]().Size()) + len(t.entries)*int(reflect.TypeFor[E]().Size())
}
