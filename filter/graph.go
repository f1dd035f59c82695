package filter

import (
	"maps"
	"slices"

	"golang.org/x/net/bpf"
)

// node is a test with the two nodes that follow it. The two ends of the graph,
// accept and reject, have no test.
type node struct {
	test     *test
	yes, no  *node
	loadID   int   // same id, same value in A
	indexID  int   // same id, same value in X; 0 for a test without index
	testID   int   // same id, same outcome
	known    facts // on every way here; while shortening
	heldA    int   // loadID of what A holds on every way here, or 0
	heldX    int   // the same for X and indexID
	code     code  // index and load without what is held
	position int   // of its first instruction in the program
	reached  bool
}

// facts is what is known on the way to a node: values loads gave, and how
// tests went. A load that is known has succeeded before, so that leaving it
// out cannot turn a packet that is too short into one that matches.
type facts struct {
	value   map[int]uint32 // by loadID
	outcome map[int]bool   // by testID
}

// graph builds the decision graph of a condition.
type graph struct {
	accept, reject *node
	nodes          []*node // followers first
	ids            map[string]int
}

func newGraph(c *condition) (g *graph, root *node) {
	g = &graph{accept: &node{}, reject: &node{}, ids: map[string]int{}}
	root = g.build(c, g.accept, g.reject)
	// Keeping facts costs memory by the square of the nodes.
	if len(g.nodes) <= 1000 {
		g.shorten(root)
	}
	g.mark(root)
	return g, root
}

// build makes nodes for c that lead to yes and no. A condition is built behind
// the one that is evaluated before it, so followers come first in nodes.
func (g *graph) build(c *condition, yes, no *node) *node {
	switch c.kind {
	case conditionAnd:
		return g.build(c.left, g.build(c.right, yes, no), no)
	case conditionOr:
		return g.build(c.left, yes, g.build(c.right, yes, no))
	case conditionNot:
		return g.build(c.left, no, yes)
	case conditionTrue:
		return yes
	case conditionFalse:
		return no
	}
	if len(g.nodes) >= maxInstructions {
		failTooLong()
	}
	index, load := encode(c.test.index), encode(c.test.load)
	n := &node{test: c.test, yes: yes, no: no}
	if len(c.test.index) > 0 {
		n.indexID = g.id("i" + index)
	}
	n.loadID = g.id("l" + index + load)
	n.testID = g.id("t" + index + load + encode(code{ins(c.test.jump, c.test.k)}))
	g.nodes = append(g.nodes, n)
	return n
}

func (g *graph) id(key string) int {
	id, ok := g.ids[key]
	if !ok {
		id = len(g.ids) + 1
		g.ids[key] = id
	}
	return id
}

func encode(c code) string {
	b := make([]byte, 0, 6*len(c))
	for _, i := range c {
		b = append(b, byte(i.Op), byte(i.Op>>8), byte(i.K>>24), byte(i.K>>16), byte(i.K>>8), byte(i.K))
	}
	return string(b)
}

// shorten leads edges around the tests whose outcome is known on that way.
func (g *graph) shorten(root *node) {
	root.reached = true
	for _, n := range slices.Backward(g.nodes) {
		if !n.reached {
			continue
		}
		n.yes = g.follow(n, true)
		n.no = g.follow(n, false)
		n.known = facts{}
	}
}

// follow returns where the edge from n leads in the end, and merges what is
// known there.
func (g *graph) follow(n *node, outcome bool) *node {
	known := n.known
	value, hasValue := uint32(0), outcome && n.test.jump == opJumpEQ
	if hasValue {
		value = n.test.k
	}
	target := n.no
	if outcome {
		target = n.yes
	}
	for target.test != nil {
		result, decided := known.outcome[target.testID]
		if target.testID == n.testID {
			result, decided = outcome, true
		}
		v, ok := known.value[target.loadID]
		if hasValue && target.loadID == n.loadID {
			v, ok = value, true
		}
		if ok && !decided && target.test.jump&operandX == 0 {
			result, decided = compareValues(target.test.jump, v, target.test.k), true
		}
		if !decided {
			break
		}
		if result {
			target = target.yes
		} else {
			target = target.no
		}
	}
	if target.test == nil {
		return target
	}
	// What is known at the target is what is known on every way to it.
	if !target.reached {
		target.reached = true
		target.known = facts{value: maps.Clone(known.value), outcome: maps.Clone(known.outcome)}
		if target.known.outcome == nil {
			target.known = facts{value: map[int]uint32{}, outcome: map[int]bool{}}
		}
		target.known.outcome[n.testID] = outcome
		if hasValue {
			target.known.value[n.loadID] = value
		}
		return target
	}
	maps.DeleteFunc(target.known.outcome, func(id int, was bool) bool {
		now, ok := known.outcome[id]
		if id == n.testID {
			now, ok = outcome, true
		}
		return !ok || now != was
	})
	maps.DeleteFunc(target.known.value, func(id int, was uint32) bool {
		now, ok := known.value[id]
		if hasValue && id == n.loadID {
			now, ok = value, true
		}
		return !ok || now != was
	})
	return target
}

// mark finds the nodes that are still reached, and what A and X hold there.
func (g *graph) mark(root *node) {
	for _, n := range g.nodes {
		n.reached = false
	}
	root.reached = true
	for _, n := range slices.Backward(g.nodes) {
		if !n.reached {
			continue
		}
		// A holds the value already when it does on every way here. On the
		// way to the root nothing is held.
		leaveA, leaveX := n.loadID, n.indexID
		switch {
		case n.heldA == n.loadID:
			n.code, leaveX = nil, n.heldX
		case n.indexID != 0 && n.heldX == n.indexID:
			n.code = n.test.load
		default:
			n.code = slices.Concat(n.test.index, n.test.load)
			if n.indexID == 0 && !n.test.usesX() {
				leaveX = n.heldX
			}
		}
		for _, follower := range []*node{n.yes, n.no} {
			if !follower.reached {
				follower.reached, follower.heldA, follower.heldX = true, leaveA, leaveX
				continue
			}
			if follower.heldA != leaveA {
				follower.heldA = 0
			}
			if follower.heldX != leaveX {
				follower.heldX = 0
			}
		}
	}
}

// usesX tells whether the load changes X.
func (t *test) usesX() bool {
	return slices.ContainsFunc(t.load, func(i bpf.RawInstruction) bool {
		return i.Op&7 == opLoadXMem&7 || i.Op == opTAX
	})
}
