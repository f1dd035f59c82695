package pipeline

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// appendSegment adds a descriptor with the bytes to the last packet.
func appendSegment(t testing.TB, b *Batch, data string) {
	t.Helper()
	addr, ok := b.cache.Get()
	if !ok {
		t.Fatal("no frame")
	}
	d := xsk.Desc{Addr: b.mem.DataStart(addr), Len: uint32(len(data)), Options: contd} // what it says of more is not true yet
	copy(b.mem.Packet(d.Addr, d.Len), data)
	b.AppendSegment(d)
}

// segmented appends a packet of several descriptors.
func segmented(t testing.TB, b *Batch, parts ...string) {
	t.Helper()
	put(t, b, []byte(parts[0]))
	for _, p := range parts[1:] {
		appendSegment(t, b, p)
	}
}

// segments returns the bytes of a packet's descriptors.
func segments(b *Batch, i int) (parts []string) {
	for k := range b.Segments(i) {
		parts = append(parts, string(b.Segment(i, k)))
	}
	return parts
}

// free is how many frames nobody holds.
func free(b *Batch) int { return b.cache.Len() + b.mem.Free() }

func TestAPacketHasTheDescriptorsThatWereAppendedInOrder(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 32})
	want := [][]string{{"one"}, {"two", "three"}, {"four"}, {"five", "six", "seven", "eight", "nine"}, {"ten"}}
	for _, parts := range want {
		segmented(t, b, parts...)
	}
	for i, parts := range want {
		if got := segments(b, i); fmt.Sprint(got) != fmt.Sprint(parts) {
			t.Errorf("packet %d is %q, want %q", i, got, parts)
		}
		if got, size := b.Size(i), len(strings.Join(parts, "")); got != size {
			t.Errorf("packet %d has %d bytes, want %d", i, got, size)
		}
		if string(b.Data(i)) != parts[0] || b.Segment(i, len(parts)) != nil {
			t.Errorf("packet %d begins with %q and goes on after its end with %q", i, b.Data(i), b.Segment(i, len(parts)))
		}
		if multi := b.Meta(i).Flags&MetaMulti != 0; multi != (len(parts) > 1) {
			t.Errorf("packet %d of %d descriptors is flagged as several: %v", i, len(parts), multi)
		}
	}
	if n := free(b); n != 32-10 {
		t.Errorf("%d frames are free, want 22", n)
	}
}

func TestReleasedPacketsGiveAllTheirFramesBack(t *testing.T) {
	for name, release := range map[string]func(b *Batch){
		"all":          func(b *Batch) { b.release(0) },
		"from one on":  func(b *Batch) { b.put(&b.desc[0]); b.release(1); b.n = 0 },
		"by the queue": func(b *Batch) { b.Release(); b.n = 0 },
		"with tees":    func(b *Batch) { b.Tee(1, 1); b.Tee(1, 2); b.Tee(0, 1); b.release(0) },
	} {
		b := newTestBatch(t, umem.Options{Frames: 16})
		segmented(t, b, "a", "b", "c")
		segmented(t, b, "d", "e")
		put(t, b, []byte("f"))
		if release(b); free(b) != 16 || b.mem.ExtraRefs() != 0 {
			t.Errorf("%s: %d frames are free, want 16; %d references too many", name, free(b), b.mem.ExtraRefs())
		}
	}
}

func TestATeeHoldsEveryFrameOfAPacket(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 16})
	segmented(t, b, "a", "b", "c")
	put(t, b, []byte("d"))
	b.Tee(0, 1)
	if n := b.mem.ExtraRefs(); n != 3 {
		t.Errorf("%d references more, want one to each of 3 frames", n)
	}
	b.put(&b.desc[0]) // one of both
	if got := segments(b, 0); fmt.Sprint(got) != "[a b c]" || free(b) != 12 {
		t.Errorf("the other has %q; %d frames free", got, free(b))
	}
	b.tees = b.tees[:0]
}

func TestACopyOfAPacketHasAllItsBytesInFramesOfItsOwn(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 16})
	segmented(t, b, "one", "two", "three")
	b.Pull(0, 1) // its offset in the frame is to be that of the copy, for room before it
	c, ok := b.copyOf(b.desc[0])
	if !ok {
		t.Fatal("not copied")
	}
	b.add(c, b.Meta(0))
	if got := segments(b, 1); fmt.Sprint(got) != "[ne two three]" {
		t.Errorf("the copy is %q", got)
	}
	if o, c := b.desc[0].Addr-b.mem.Start(b.desc[0].Addr), c.Addr-b.mem.Start(c.Addr); o != c {
		t.Errorf("at %d of its frame, want %d", c, o)
	}
	for k := range 3 {
		copy(b.Segment(1, k), "XXXXX")
	}
	if got := segments(b, 0); fmt.Sprint(got) != "[ne two three]" {
		t.Errorf("writing to the copy makes the packet %q", got)
	}
}

func TestACopyForWhichFramesAreMissingHoldsNone(t *testing.T) {
	for spare := range 3 {
		b := newTestBatch(t, umem.Options{Frames: 3 + spare})
		segmented(t, b, "one", "two", "three")
		if _, ok := b.copyOf(b.desc[0]); ok {
			t.Errorf("%d frames were enough for three", spare)
		}
		if free(b) != spare {
			t.Errorf("%d frames are free, want %d", free(b), spare)
		}
	}
}

func TestTheVerbsKnowThatAPacketGoesOnInOtherFrames(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 16})
	segmented(t, b, "one", "two")
	if !b.Push(0, 2) || !b.Pull(0, 3) || fmt.Sprintf("%q", segments(b, 0)) != `["ne" "two"]` || b.Size(0) != 5 {
		t.Errorf("its front was moved to %q", segments(b, 0))
	}
	if b.Pull(0, 2) {
		t.Error("nothing of the first frame is left, and it was done")
	}
	for want, do := range map[Reason]func(i, n int) bool{ReasonNoTailroom: b.Extend, ReasonTooShort: b.Trim} {
		b.fate[0], b.marked = 0, 0
		if do(0, 1) {
			t.Error("the end of the first frame moved")
		}
		if _, dropped, why := b.Verdict(0); !dropped || why != want {
			t.Errorf("dropped %v for reason %d, want %d", dropped, why, want)
		}
	}
	b.fate[0], b.marked = 0, 0
}

func TestOfSeveralDescriptorsTheFirstIsParsedAndItsLengthIsNotWrong(t *testing.T) {
	for _, tc := range metaCases {
		if tc.cut || tc.want.Flags&(MetaIPv4|MetaIPv6) == 0 {
			continue
		}
		data := []byte(testMACs + tc.data)
		var whole Meta
		whole.Parse(data)
		b := newTestBatch(t, umem.Options{Frames: 8})
		headers := int(whole.End)
		if whole.Flags&MetaL4 != 0 {
			headers = int(whole.L4) + l4Size(whole.Protocol, whole.Flags&MetaFragment != 0)
		}
		for at := headers; at < int(whole.End); at++ {
			segmented(t, b, string(data[:at]), string(data[at:]))
			b.Parse()
			m := *b.Meta(0)
			if m.Flags != whole.Flags|MetaMulti || int(m.End) != at || m.L4 != whole.L4 || m.SrcPort != whole.SrcPort {
				t.Fatalf("%s: cut at %d of %d it is\n%+v, whole\n%+v", tc.name, at, whole.End, m, whole)
			}
			consistent(t, b.Data(0), &m)
			b.release(0)
		}
		// What looks whole keeps the flag too, and another packet in its place does not.
		segmented(t, b, string(data), "more")
		put(t, b, data)
		b.Parse()
		if a, c := b.Meta(0).Flags, b.Meta(1).Flags; a != whole.Flags|MetaMulti || c != whole.Flags {
			t.Fatalf("%s: flags %b and %b, want %b and the flag of several for the first", tc.name, a, c, whole.Flags)
		}
		if !bytes.Equal(b.Data(0), data) {
			t.Fatal("parsing changed it")
		}
	}
}
