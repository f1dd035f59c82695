package pipeline_test

import (
	"slices"
	"testing"
)

// bytesAt30 returns the byte that test-write writes, of each packet.
func bytesAt30(packets [][]byte) []int {
	list := []int{}
	for _, p := range packets {
		list = append(list, int(p[30]))
	}
	return list
}

func TestATeeIsCopiedOnlyForWhoWrites(t *testing.T) {
	for _, tc := range []struct {
		name, stages string
		b, c         int // what byte 30 is at each port
		copied       uint64
	}{
		{"nobody writes", "test-tee copy->c ! count", 0, 0, 0},
		{"the copy is written to", "test-tee copy->x; x: test-write mark=1 -> c", 0, 1, 2},
		{"the packet is written to", "test-tee copy->c ! test-write mark=2", 2, 0, 2},
		{"both are written to", "test-tee copy->x ! test-write mark=2; x: test-write mark=1 -> c", 2, 1, 2},
		{"written to twice", "test-tee copy->x; x: test-write mark=1 ! test-write mark=3 -> c", 0, 3, 2},
		{"written to before", "test-write mark=4 ! test-tee copy->c", 4, 4, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", tc.stages))
			out := n.pass(numbered(0, 0, 0), numbered(0, 0, 1))
			for port, want := range map[string]int{"b": tc.b, "c": tc.c} {
				if got := bytesAt30(out[port]); !slices.Equal(got, []int{want, want}) {
					t.Errorf("port %s got %v, want two with %d", port, got, want)
				}
				if got := numbers(out[port]); !slices.Equal(got, upTo(2)) {
					t.Errorf("port %s got packets %v, want 0 and 1", port, got)
				}
			}
			s := n.eng.Snapshot()
			if s.Packets.Copied != tc.copied || s.Packets.Teed != 2 {
				t.Errorf("%+v, want %d copied and 2 teed", s.Packets, tc.copied)
			}
			n.end()
		})
	}
}

func TestBothHoldersOfAFrameMayTransmitItOnTheSamePort(t *testing.T) {
	for _, stages := range []string{
		"test-tee copy->b",
		"test-tee copy->x -> b; x: test-empty -> b",
		"test-tee copy->x -> b; x: test-tee copy->b -> c",
	} {
		n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", stages))
		for range 5 { // frames return, and are used again
			n.round()
			n.deliver("a", numbered(0, 0, 0), numbered(0, 0, 1))
			n.settle()
			checkSnapshot(t, n.eng.Snapshot(), 0) // both are in the TX ring
			out := n.out()
			checkSnapshot(t, n.eng.Snapshot(), 0) // and in the completion ring
			if len(out["b"]) < 4 {
				t.Errorf("%s: %d packets left by b, want two of each", stages, len(out["b"]))
			}
			n.round()
		}
		if extra := n.mem.ExtraRefs(); extra != 0 {
			t.Errorf("%s: %d references are left", stages, extra)
		}
		n.end()
	}
}

func TestATeedPacketWhoseOneHolderDropsItGoesOnAtTheOther(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-tee copy->x ! drop every=1; x: drop every=2 ! test-write mark=1 -> c"))
	out := n.pass(numbered(0, 0, 0), numbered(0, 0, 1), numbered(0, 0, 2), numbered(0, 0, 3))
	if got := numbers(out["c"]); !slices.Equal(got, []int{0, 2}) || len(out["b"]) != 0 {
		t.Errorf("c got %v and b %d packets, want 0 and 2, and none", got, len(out["b"]))
	}
	// Whoever is the only holder by then writes without a copy.
	if s := n.eng.Snapshot(); s.Packets.Copied != 0 {
		t.Errorf("%d copied, want none: nobody else held them any more", s.Packets.Copied)
	}
	n.end()
}

// The packets for which there is no frame to copy them into are dropped, and are not
// written to: the other holder has their bytes.
func TestAPacketThatCannotBeCopiedIsDroppedAndTheOtherHoldersIsAsItWas(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"a", "b", "c"}, frames: 512, ring: 512},
		pipe(t, "p", "a", "b", "test-tee copy->x; x: test-write mark=1 ! count -> c"))
	n.round() // all frames are in fill rings now
	free := n.mem.Free() + func() int { s := n.eng.Snapshot(); return s.Memory.Places.Free }()
	if free != 0 {
		t.Fatalf("%d frames are free, want none", free)
	}
	// The fill rings of b and c have none left either: those of a took them all.
	for i := range 20 {
		n.deliver("a", numbered(0, 0, i))
	}
	if got := n.eng.RoundOf(0); got != 20 {
		t.Fatalf("%d packets in the round, want 20", got)
	}
	out := n.out()
	if got := bytesAt30(out["b"]); len(got) != 20 || slices.Max(got) != 0 {
		t.Errorf("the other holder's bytes are %v, want 20 as they were", got)
	}
	s := n.eng.Snapshot()
	if w := stage(t, s, "p/2:test-write"); w.Drops["no_free_frame"] != 20 || w.Packets != 20 || w.Copied != 0 {
		t.Errorf("%+v, want 20 dropped for want of a frame", w)
	}
	if len(out["c"]) != 0 {
		t.Errorf("%d left by c, want none", len(out["c"]))
	}
	n.end()
}

// Two workers hold each frame: one transmits it, the other writes to it, or
// transmits it as well.
func TestSnapshotsUnderLoadAddUpWithTeesOnSeveralWorkers(t *testing.T) {
	for _, stages := range []string{
		"test-tee copy->x ! test-hand to=1 ! count; x: test-write mark=1 -> b",
		"test-tee copy->x ! test-hand to=1 ! test-write mark=1; x: count -> b",
		"test-tee copy->x ! test-hand to=1 ! test-tee copy->b; x: count -> b",
	} {
		n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {0}, "c": {1}}}, pipe(t, "p", "a", "c", stages))
		n.run()
		f := n.feed(2, map[string][]flow{"a": {{}}})
		for range 50 {
			if p := n.eng.Snapshot().Memory.Places; p.Sum() != p.Total {
				t.Errorf("%s: places do not add up to %d but %d: %+v", stages, p.Total, p.Sum(), p)
			}
		}
		f.stop()
		n.stop()
		n.end()
	}
}
