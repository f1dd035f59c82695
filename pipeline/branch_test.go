package pipeline_test

import (
	"slices"
	"testing"
)

func TestBranchesAndMergesDeliverEveryPacketInOrder(t *testing.T) {
	const stages = "test-split odd->left even->right ! test-empty -> tail; " +
		"left: test-empty ! test-empty -> tail; " +
		"right: test-empty -> c; " +
		"tail: count"
	for _, perBatch := range []int{1, 7, 64, 256} {
		n := newNet(t, netConfig{batch: perBatch}, pipe(t, "p", "a", "b", stages))
		n.round()
		got := map[string][][]byte{}
		for i := range 400 {
			n.deliver("a", numbered(byte(i%4), 0, i)) // kind 3 goes on like kind 0
			if i%100 == 99 {
				n.settle()
				for port, packets := range n.out() {
					got[port] = append(got[port], packets...)
				}
				n.round()
			}
		}
		byKind := map[byte][]int{}
		for _, p := range append(got["b"], got["c"]...) {
			byKind[p[14]] = append(byKind[p[14]], number(p))
		}
		for kind := range byte(4) {
			var want []int
			for i := int(kind); i < 400; i += 4 {
				want = append(want, i)
			}
			if !slices.Equal(byKind[kind], want) {
				t.Errorf("batches of %d: packets of kind %d are %v, want %v", perBatch, kind, byKind[kind], want)
			}
		}
		if len(got["b"]) != 300 || len(got["c"]) != 100 {
			t.Errorf("batches of %d: %d left by b and %d by c, want 300 and 100", perBatch, len(got["b"]), len(got["c"]))
		}
		s := n.eng.Snapshot()
		for name, want := range map[string]uint64{"p/1:test-split": 400, "p/2:test-empty": 200, "p/4:test-empty": 100, "p/5:test-empty": 100, "p/6:count": 300} {
			if got := stage(t, s, name).Packets; got != want {
				t.Errorf("batches of %d: %s saw %d packets, want %d", perBatch, name, got, want)
			}
		}
		n.end()
	}
}

// Each tee doubles what a batch brings: 16 times 64 packets meet where the chains
// merge, four times what waits there, and again behind it.
func TestWhatWaitsWhereChainsMergeMayBeMoreThanABatch(t *testing.T) {
	const stages = "test-tee copy->two ! test-empty -> two; " +
		"two: test-tee copy->three -> three; " +
		"three: test-tee copy->four -> four; " +
		"four: test-tee copy->tail -> tail; " +
		"tail: count ! test-split odd->end; " +
		"end: count -> c"
	n := newNet(t, netConfig{ring: 2048}, pipe(t, "p", "a", "b", stages))
	n.round()
	for i := range 64 {
		n.deliver("a", numbered(byte(i%2), 0, i))
	}
	n.settle()
	out := n.out()
	if len(out["b"]) != 32*16 || len(out["c"]) != 32*16 {
		t.Errorf("%d and %d packets left, want %d each", len(out["b"]), len(out["c"]), 32*16)
	}
	seen := map[int]int{}
	for _, p := range append(out["b"], out["c"]...) {
		seen[number(p)]++
	}
	for i := range 64 {
		if seen[i] != 16 {
			t.Errorf("packet %d left %d times, want 16", i, seen[i])
		}
	}
	s := n.eng.Snapshot()
	if tail := stage(t, s, "p/6:count"); tail.Packets != 1024 || tail.Calls < 4 {
		t.Errorf("behind the merge: %+v, want 1024 packets in batches of at most 256", tail)
	}
	if s.Packets.Teed != 1024-64 || s.Packets.Copied != 0 {
		t.Errorf("%+v, want %d teed and nothing copied", s.Packets, 1024-64)
	}
	n.end()
}

func TestAnOutputThatLeadsNowhereDropsWithItsReason(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-split odd->c"))
	out := n.pass(numbered(0, 0, 0), numbered(1, 0, 1), numbered(2, 0, 2), numbered(0, 0, 3))
	if got := numbers(out["b"]); !slices.Equal(got, []int{0, 3}) {
		t.Errorf("b got %v", got)
	}
	if got := numbers(out["c"]); !slices.Equal(got, []int{1}) {
		t.Errorf("c got %v", got)
	}
	if d := stage(t, n.eng.Snapshot(), "p/1:test-split").Drops; d["no_output"] != 1 || len(d) != 1 {
		t.Errorf("drops %v, want one of no_output", d)
	}
	n.end()
}

func TestStagesOnSeveralPathsAreOneInstanceForEachWorker(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-split odd->far even->tail ! tail: test-heir; far: test-empty -> tail"))
	n.pass(numbered(0, 0, 0), numbered(1, 0, 1), numbered(2, 0, 2))
	if s := stage(t, n.eng.Snapshot(), "p/2:test-heir"); s.Values["seen"] != 3 || s.Packets != 3 {
		t.Errorf("%+v, want 3 packets seen by one instance", s)
	}
	n.end()
}
