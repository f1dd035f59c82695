package stages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// newVLAN returns a stage with what change sets, other options at their defaults.
func newVLAN(change func(*VLAN)) *VLAN {
	m, _ := pipeline.Lookup("vlan")
	s := m.New().(*VLAN)
	change(s)
	return s
}

// vlanCases are all operations; some do not change every packet.
var vlanCases = map[string]func(*VLAN){
	"push":                 func(s *VLAN) { s.Op, s.ID = "push", 42 },
	"push a service tag":   func(s *VLAN) { s.Op, s.ID, s.PCP, s.DEI, s.Type = "push", 4094, 5, 1, "802.1ad" },
	"push before VLAN 7":   func(s *VLAN) { s.Op, s.ID, s.Match = "push", 42, []int{7} },
	"pop":                  func(s *VLAN) { s.Op = "pop" },
	"pop of two ids":       func(s *VLAN) { s.Op, s.Match = "pop", []int{7, 100} },
	"set the id":           func(s *VLAN) { s.Op, s.ID = "set", 42 },
	"set all":              func(s *VLAN) { s.Op, s.ID, s.PCP, s.DEI, s.Type = "set", 0, 0, 0, "802.1q" },
	"set type of VLAN 100": func(s *VLAN) { s.Op, s.Type, s.Match = "set", "802.1q", []int{100} },
	"set the priority":     func(s *VLAN) { s.Op, s.PCP, s.DEI = "set", 7, 1 },
}

// vlanReference is what the operation makes of a packet, written the plain way;
// nil if it drops it.
func vlanReference(s *VLAN, p []byte) (after []byte, changed bool) {
	if len(p) < 14 {
		return nil, false
	}
	tpid := binary.BigEndian.Uint16(p[12:])
	isTagged := tpid == 0x8100 || tpid == 0x88a8
	if s.Op != "push" || len(s.Match) > 0 {
		switch {
		case !isTagged:
			return p, false
		case len(p) < 18:
			return nil, false
		case len(s.Match) > 0:
			match := false
			for _, id := range s.Match {
				match = match || id == int(binary.BigEndian.Uint16(p[14:])&0xfff)
			}
			if !match {
				return p, false
			}
		}
	}
	newTPID := map[string]uint16{"802.1q": 0x8100, "802.1ad": 0x88a8}[s.Type]
	switch s.Op {
	case "pop":
		return append(bytes.Clone(p[:12]), p[16:]...), true
	case "push":
		if newTPID == 0 {
			newTPID = 0x8100
		}
		tci := s.ID
		if s.PCP > 0 {
			tci |= s.PCP << 13
		}
		if s.DEI > 0 {
			tci |= 1 << 12
		}
		after = binary.BigEndian.AppendUint16(bytes.Clone(p[:12]), newTPID)
		after = binary.BigEndian.AppendUint16(after, uint16(tci))
		return append(after, p[12:]...), true
	}
	after = bytes.Clone(p)
	if newTPID != 0 {
		binary.BigEndian.PutUint16(after[12:], newTPID)
	}
	tci := int(binary.BigEndian.Uint16(after[14:]))
	if s.ID >= 0 {
		tci = tci&^0xfff | s.ID
	}
	if s.DEI >= 0 {
		tci = tci&^0x1000 | s.DEI<<12
	}
	if s.PCP >= 0 {
		tci = tci&^0xe000 | s.PCP<<13
	}
	binary.BigEndian.PutUint16(after[14:], uint16(tci))
	return after, true
}

// checkVLAN runs the stage on the packet, parsed before or not, and compares what
// becomes of it with the reference, and its metadata with what a parse finds.
func checkVLAN(t testing.TB, change func(*VLAN), p []byte, parsed bool) {
	t.Helper()
	s := newVLAN(change)
	ctx := provisioned(t, s, "else")
	checkWrites(t, p, func(b *pipeline.Batch) {
		t.Helper()
		var hash uint32
		var known pipeline.Checksum
		if parsed {
			b.Parse()
			if b.Meta(0).Flags&pipeline.MetaMalformed == 0 {
				b.Meta(0).Checksum = pipeline.ChecksumGood
			}
			known, hash = b.Meta(0).Checksum, b.FlowHash(0)
		}
		deep := b.Meta(0).VLANs == 2
		s.Process(b)
		want, changed := vlanReference(s, p)
		to, dropped, why := b.Verdict(0)
		if want == nil {
			if !dropped || ctx.ReasonName(why) != "too_short" {
				t.Fatalf("%x: verdict is output %d, dropped %v %s; want it dropped as too short", p, to, dropped, ctx.ReasonName(why))
			}
			return
		}
		if !bytes.Equal(b.Data(0), want) {
			t.Fatalf("%x became\n%x, want\n%x", p, b.Data(0), want)
		}
		if dropped || (to == pipeline.Next) != changed {
			t.Fatalf("%x: verdict is output %d, dropped %v, of a packet that was changed: %v", p, to, dropped, changed)
		}
		if n := s.Report()["changed"]; n != 1 && changed || n != 0 && !changed {
			t.Fatalf("%x: %d packets counted as changed", p, n)
		}
		m := b.Meta(0)
		if !parsed {
			if m.Flags != 0 {
				t.Fatalf("%x: a packet that nobody parsed has metadata %s", p, metaText(*m))
			}
			return
		}
		if m.Checksum != known {
			t.Fatalf("%x: what was known of its checksums is not", p)
		}
		checkMeta(t, b, 0)
		// Behind a third tag and in what is malformed another parse may see more or less.
		if !deep && m.Flags&(pipeline.MetaIPv4|pipeline.MetaIPv6) != 0 && m.Flags&pipeline.MetaMalformed == 0 && b.FlowHash(0) != hash {
			t.Fatalf("%x: flow hash is %#x, was %#x", p, b.FlowHash(0), hash)
		}
	})
}

func TestVLANChangesEveryKindOfPacketAndItsMetadata(t *testing.T) {
	for name, change := range vlanCases {
		t.Run(name, func(t *testing.T) {
			for _, s := range commonTraffic() {
				for _, parsed := range []bool{true, false} {
					t.Run(s.name, func(t *testing.T) { checkVLAN(t, change, s.data, parsed) })
				}
			}
		})
	}
}

func TestVLANPushThenPopIsTheOriginal(t *testing.T) {
	push, pop := newVLAN(vlanCases["push"]), newVLAN(vlanCases["pop"])
	provisioned(t, push)
	provisioned(t, pop)
	for _, s := range commonTraffic() {
		if len(s.data) < 14 {
			continue
		}
		b := newBatch(t, s.data)
		b.Parse()
		before := *b.Meta(0)
		push.Process(b)
		pop.Process(b)
		if !bytes.Equal(b.Data(0), s.data) {
			t.Errorf("%s became %x, want %x", s.name, b.Data(0), s.data)
		}
		if after := *b.Meta(0); metaText(after) != metaText(before) {
			t.Errorf("%s has metadata\n%s, had\n%s", s.name, metaText(after), metaText(before))
		}
	}
}

func TestVLANPushesUntilTheHeadroomIsUsedUp(t *testing.T) {
	s := newVLAN(vlanCases["push"])
	ctx := provisioned(t, s)
	b := newBatch(t, udpPacket())
	for n := 0; ; n++ {
		s.Process(b)
		if _, dropped, why := b.Verdict(0); dropped {
			if ctx.ReasonName(why) != "no_headroom" || n != 256/4 {
				t.Errorf("dropped as %s after %d tags, want no_headroom after 64", ctx.ReasonName(why), n)
			}
			if got := b.Data(0); len(got) != 60+4*n || s.Report()["changed"] != uint64(n) {
				t.Errorf("%d bytes and %d counted after %d tags", len(got), s.Report()["changed"], n)
			}
			return
		}
	}
}

func TestVLANCountsWhatItLeavesAlone(t *testing.T) {
	s := newVLAN(vlanCases["pop of two ids"])
	provisioned(t, s) // without else they go on
	b := newBatch(t, udpPacket(), packetNamed(t, "TCP in a VLAN"), packetNamed(t, "UDP in a VLAN"), packetNamed(t, "UDP in two VLANs"), packetNamed(t, "LLDP"))
	s.Process(b)
	for i := range b.Len() {
		if to, dropped, _ := b.Verdict(i); to != pipeline.Next || dropped {
			t.Errorf("packet %d goes to %d, dropped %v; want the next stage", i, to, dropped)
		}
	}
	if got := fmt.Sprint(s.Report()); got != "map[changed:2 unmatched:1 untagged:2]" {
		t.Errorf("counted %s", got)
	}
}

func TestVLANRefusesOptionsThatMakeNoSense(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{"op=pop", ""},
		{"op=pop match=7", ""},
		{"op=push id=0", ""},
		{"op=set pcp=0", ""},
		{"op=set type=802.1ad", ""},
		{"", "stages:1:1: stage vlan: op is missing (push: put a tag before what is there; pop: take one off; set: change it)"},
		{"op=swap", `stages:1:9: stage vlan: option op: found "swap", want push, pop or set`},
		{"op=push", "stages:1:1: stage vlan: option id: missing; push needs the id of the tag, 0 to 4094"},
		{"op=push id=4095", "stages:1:17: stage vlan: id: found 4095, want at most 4094"},
		{"op=push id=1 pcp=8", "stages:1:23: stage vlan: pcp: found 8, want at most 7"},
		{"op=push id=1 dei=2", "stages:1:23: stage vlan: dei: found 2, want at most 1"},
		{"op=push id=-2", "stages:1:17: stage vlan: id: found -2, want -1 or more"},
		{"op=push id=1 type=qinq", `stages:1:24: stage vlan: option type: found "qinq", want 802.1q or 802.1ad`},
		{"op=pop id=7", "stages:1:9: stage vlan: option op: pop takes the tag off and writes none; give only match, which says of which ids"},
		{"op=set", "stages:1:9: stage vlan: option op: set changes nothing; give id, pcp, dei or type"},
		{"op=pop match=4095", "stages:1:19: stage vlan: match: found 4095, want at most 4094"},
	} {
		_, err := pipeline.ParseQuick("stages", "vlan "+tc.options)
		if got := fmt.Sprint(err); got != tc.want && !(err == nil && tc.want == "") {
			t.Errorf("vlan %s: %s, want %s", tc.options, got, tc.want)
		}
	}
}

func TestVLANDoesNotAllocate(t *testing.T) {
	s := newVLAN(vlanCases["set all"])
	provisioned(t, s)
	noAllocations(t, s)
	both := &pushPop{newVLAN(vlanCases["push"]), newVLAN(vlanCases["pop"])}
	provisioned(t, both.push)
	provisioned(t, both.pop)
	noAllocations(t, both)
}

// pushPop pushes a tag and pops it again, so that a batch can pass many times.
type pushPop struct{ push, pop *VLAN }

func (s *pushPop) Process(b *pipeline.Batch) {
	s.push.Process(b)
	s.pop.Process(b)
}

func BenchmarkVLAN(b *testing.B) {
	both := &pushPop{newVLAN(vlanCases["push"]), newVLAN(vlanCases["pop"])}
	provisioned(b, both.push)
	provisioned(b, both.pop)
	b.Run("push and pop", func(b *testing.B) { benchmark(b, both, &Parse{}) })
	b.Run("set", func(b *testing.B) {
		s := newVLAN(vlanCases["set all"])
		provisioned(b, s)
		benchmark(b, s, both.push, &Parse{})
	})
	b.Run("pop of untagged", func(b *testing.B) { benchmark(b, both.pop, &Parse{}) })
}

func FuzzVLAN(f *testing.F) {
	for _, s := range commonTraffic() {
		f.Add(s.data, uint16(42), uint8(0))
	}
	f.Fuzz(func(t *testing.T, p []byte, id uint16, how uint8) {
		if len(p) == 0 || len(p) > umem.MinFrameSize-umem.KernelHeadroom {
			return
		}
		change := func(s *VLAN) {
			s.Op = []string{"push", "pop", "set"}[how%3]
			if s.Op != "pop" {
				s.ID, s.PCP, s.DEI = int(id%4095), int(how>>2&7), int(how>>5&1)
			}
			if how&0x40 != 0 {
				s.Match = []int{int(id >> 4)}
			}
		}
		checkVLAN(t, change, p, how&0x80 == 0)
	})
}

func FuzzVLANPushInBatches(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage { return newVLAN(vlanCases["push before VLAN 7"]) })
}

func FuzzVLANPopInBatches(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage { return newVLAN(vlanCases["pop"]) })
}
