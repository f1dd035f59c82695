package acl

import (
	"math"
	"slices"
)

// A Verdict is what a set says of a packet.
type Verdict uint32

// Verdicts that name no rule.
const (
	// NoMatch: no rule matches.
	NoMatch Verdict = math.MaxUint32
	// Unreadable: the headers are damaged, or hidden below more VLAN tags than are
	// looked at, so that nobody can say which rules match.
	Unreadable Verdict = math.MaxUint32 - 1
)

// verdictOf returns the verdict of the rule with that index. Of two verdicts the
// lesser one is of the rule that comes first.
func verdictOf(rule int, a Action) Verdict { return Verdict(rule)<<1 | Verdict(a) }

// Rule returns the index of the rule that matches. The verdict must name one.
func (v Verdict) Rule() int { return int(v >> 1) }

// Action returns what the rule does. The verdict must name one.
func (v Verdict) Action() Action { return Action(v & 1) }

// A Set is rules, compiled. It is not changed any more and may be used by any
// number of goroutines.
type Set struct {
	ipv4, ipv4Later, other table[entry4]
	ipv6, ipv6Later        table[entry6]
}

// A table is the rules for one kind of packet.
type table[E any] []tree[E]

// Compile makes a set of the rules for packets of the direction: those that name
// another one are left out, but count for the indices of verdicts.
//
// The trees of a table have at most entriesPerBox entries for each box, and some
// thousands, and as many nodes; a rule has at most two boxes in each table. So a set
// of 10,000 rules takes at most 64 MiB, and mostly some 3 MiB.
func Compile(rules []Rule, d Direction) *Set {
	s := &Set{}
	compile4 := func(k kind) table[entry4] { return newTable(boxesOf(rules, d, k), k.fields(), newEntry4) }
	compile6 := func(k kind) table[entry6] { return newTable(boxesOf(rules, d, k), k.fields(), newEntry6) }
	s.ipv4, s.ipv4Later, s.other = compile4(kindIPv4), compile4(kindIPv4Later), compile4(kindOther)
	s.ipv6, s.ipv6Later = compile6(kindIPv6), compile6(kindIPv6Later)
	return s
}

// boxesOf returns the boxes of the rules for a kind of packet, in their order.
func boxesOf(rules []Rule, d Direction, k kind) []box {
	var boxes []box
	for i := range rules {
		r := &rules[i]
		if r.Direction != NoDirection && r.Direction != d {
			continue
		}
		boxes = r.appendBoxes(boxes, k, verdictOf(i, r.Action))
		if r.Unconditional() {
			break // no rule after it matters
		}
	}
	return boxes
}

func newTable[E any](boxes []box, f fields, entry func(fields, *box, uint32) E) table[E] {
	var t table[E]
	list := make([]uint32, len(boxes))
	for i := range list {
		list[i] = uint32(i)
	}
	for len(list) > 0 {
		b := builder{fields: f, boxes: boxes, last: len(t) == maxTrees-1}
		putOff := b.build(list)
		tr := tree[E]{nodes: slices.Clip(b.nodes), entries: make([]E, len(b.listed)), least: NoMatch}
		for i, l := range b.listed[1:] {
			tr.entries[1+i] = entry(f, &boxes[l.box], l.more)
			tr.least = min(tr.least, boxes[l.box].verdict)
		}
		if len(b.listed) > 1 {
			tr.steps = b.depth(fewLeaves)
			t = append(t, tr)
		}
		list = putOff
	}
	// The trees with the first rules come first: where they have a match, the
	// others need not be looked at.
	slices.SortStableFunc(t, func(a, b tree[E]) int { return int(int64(a.least) - int64(b.least)) })
	return t
}

// Size returns the bytes the set occupies.
func (s *Set) Size() int {
	n := 0
	for _, t := range []table[entry4]{s.ipv4, s.ipv4Later, s.other} {
		for i := range t {
			n += t[i].size()
		}
	}
	for _, t := range []table[entry6]{s.ipv6, s.ipv6Later} {
		for i := range t {
			n += t[i].size()
		}
	}
	return n
}
