package pipeline

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

// eachCase runs f on a batch with the packet of each case, parsed, and padded to
// the 60 bytes that Ethernet has at least.
func eachCase(t *testing.T, f func(t *testing.T, b *Batch, tc metaCase)) {
	for _, tc := range metaCases {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBatch(t, umem.Options{Frames: 4})
			data := []byte(testMACs + tc.data)
			put(t, b, append(data, make([]byte, max(0, 60-len(data)))...))
			b.Parse()
			f(t, b, tc)
		})
	}
}

// fresh is what Parse says of the bytes, with the way here of another.
func fresh(data []byte, m *Meta) Meta {
	f := *m
	f.Parse(data)
	f.hash = m.hash
	return f
}

// same compares what headers there are and where, and not the tags, which the
// verbs cannot know of.
func same(a, b Meta) bool {
	for _, m := range []*Meta{&a, &b} {
		m.Flags &^= MetaVLAN | MetaHash
		m.VLAN, m.VLANs = [2]uint16{}, 0
		if m.Flags&MetaL4 == 0 {
			m.L4 = 0
		}
	}
	return a == b
}

func TestATagPushedBetweenAddressesAndTypeShiftsTheOffsetsAsParseWould(t *testing.T) {
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		if b.Meta(0).L3 == 0 || b.Meta(0).VLANs == 2 {
			return // cut within its tags, or Parse would look at the next
		}
		hash := b.FlowHash(0)
		was := *b.Meta(0)
		if !b.Push(0, 4) {
			t.Fatal("no room")
		}
		p := b.Data(0)
		copy(p, p[4:16])
		copy(p[12:], "\x81\x00\x00\x07")
		if m := *b.Meta(0); !same(m, fresh(p, &m)) {
			t.Errorf("is\n%+v, parsed\n%+v", m, fresh(p, &m))
		}
		again := *b.Meta(0)
		again.Parse(p)
		if h := again.flowHash(p); h != hash || b.FlowHash(0) != hash {
			t.Errorf("the tag changes the flow hash from %#x to %#x", hash, h)
		}
		copy(p[4:16], bytes.Clone(p[:12]))
		if !b.Pull(0, 4) {
			t.Fatal("not pulled")
		}
		if m := *b.Meta(0); m != was {
			t.Errorf("without the tag again it is\n%+v, was\n%+v", m, was)
		}
	})
}

func TestATagPulledShiftsTheOffsetsAsParseWould(t *testing.T) {
	tried := 0
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		if tc.want.VLANs == 0 || tc.cut || b.Meta(0).EtherType == EtherTypeVLAN {
			return
		}
		tried++
		p := b.Data(0)
		copy(p[4:16], bytes.Clone(p[:12]))
		if !b.Pull(0, 4) {
			t.Fatal("not pulled")
		}
		if m := *b.Meta(0); !same(m, fresh(b.Data(0), &m)) {
			t.Errorf("is\n%+v, parsed\n%+v", m, fresh(b.Data(0), &m))
		}
	})
	if tried < 2 {
		t.Errorf("%d cases had a tag to pull", tried)
	}
}

func TestAPullForgetsTheHeadersThatItCutsAndNoOther(t *testing.T) {
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		desc, was := b.desc[0], *b.Meta(0)
		for n := range int(desc.Len) {
			b.desc[0], b.meta[0] = desc, was
			if !b.Pull(0, n) {
				t.Fatalf("%d bytes not pulled", n)
			}
			m := *b.Meta(0)
			if n > int(was.L3) {
				if m.Flags != 0 || m.Checksum != ChecksumUnknown {
					t.Fatalf("%d bytes pulled, of the network header too, and it is still %+v", n, m)
				}
				continue
			}
			if m.Flags != was.Flags || int(m.L3) != int(was.L3)-n || int(m.End) != int(was.End)-n ||
				m.Flags&MetaL4 != 0 && int(m.L4) != int(was.L4)-n {
				t.Fatalf("%d bytes pulled of\n%+v, is\n%+v", n, was, m)
			}
			consistent(t, b.Data(0), &m)
		}
	})
}

func TestPushedHeadersOfATunnelMoveTheOffsetsToThoseOfThePacketInside(t *testing.T) {
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		inner, was := bytes.Clone(b.Data(0)), *b.Meta(0)
		const outer = 14 + 20 + 8 + 8
		if !b.Push(0, outer) {
			t.Fatal("no room")
		}
		m := *b.Meta(0)
		if m.L3 != was.L3+outer || m.End != was.End+outer || m.Flags&MetaL4 != 0 && m.L4 != was.L4+outer || m.Flags != was.Flags {
			t.Errorf("is\n%+v, was\n%+v", m, was)
		}
		b.Pull(0, outer)
		if *b.Meta(0) != was || !bytes.Equal(b.Data(0), inner) {
			t.Errorf("taken off again it is\n%+v, was\n%+v", *b.Meta(0), was)
		}
	})
}

func TestATrimLeavesWhatParseWouldFindIfTheIPLengthSaidSo(t *testing.T) {
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		desc, was := b.desc[0], *b.Meta(0)
		whole := bytes.Clone(b.Data(0))
		was.Checksum = ChecksumGood
		for n := range int(desc.Len) {
			b.desc[0], b.meta[0] = desc, was
			copy(b.Data(0), whole)
			if !b.Trim(0, n) {
				t.Fatalf("%d bytes not trimmed", n)
			}
			m, p := *b.Meta(0), b.Data(0)
			if cutsIP := len(p) < int(was.End); cutsIP == (m.Checksum == ChecksumGood) {
				t.Fatalf("%d bytes trimmed, and the checksum is %d", n, m.Checksum)
			}
			// None of these may read beyond the packet.
			b.VerifyChecksum(0)
			b.CompleteChecksum(0)
			b.FlowHash(0)
			if m.Flags != 0 {
				consistent(t, p, &m)
			}
			if was.Flags&MetaMalformed != 0 {
				continue
			}
			m.Checksum = ChecksumUnknown
			if l3 := int(m.L3); len(p) < int(was.End) && was.Flags&MetaIPv4 != 0 && len(p) >= l3+20 {
				binary.BigEndian.PutUint16(p[l3+2:], uint16(len(p)-l3))
			} else if len(p) < int(was.End) && was.Flags&MetaIPv6 != 0 && len(p) >= l3+40 {
				binary.BigEndian.PutUint16(p[l3+4:], uint16(len(p)-l3-40))
			}
			want := fresh(p, &m)
			if want.Flags&MetaMalformed != 0 {
				if m.Flags != 0 {
					t.Fatalf("%d bytes trimmed of\n%+v, is still\n%+v, parsed\n%+v", n, was, m, want)
				}
				continue
			}
			if !same(m, want) {
				t.Fatalf("%d bytes trimmed of\n%+v, is\n%+v, parsed\n%+v", n, was, m, want)
			}
		}
	})
}

func TestAnExtensionIsPaddingAndOfWhatIsNotIPTheEnd(t *testing.T) {
	eachCase(t, func(t *testing.T, b *Batch, tc metaCase) {
		if tc.cut {
			return // it may be whole with more bytes
		}
		was := b.Meta(0).End
		if !b.Extend(0, 100) {
			t.Fatal("no room")
		}
		m := *b.Meta(0)
		if !same(m, fresh(b.Data(0), &m)) {
			t.Errorf("is\n%+v, parsed\n%+v", m, fresh(b.Data(0), &m))
		}
		if isIP := m.Flags&(MetaIPv4|MetaIPv6) != 0; isIP != (m.End == was) {
			t.Errorf("IP %v, and its end was %d and is %d", isIP, was, m.End)
		}
	})
}

func TestWhatIsForgottenIsNotThePacketsWayNorThatItHasSeveralDescriptors(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, []byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp)))
	b.Parse()
	m := b.Meta(0)
	b.SetArrival(0, 7)
	m.trace = 9
	m.Flags |= MetaMulti
	b.FlowHash(0)
	if !b.Pull(0, 20) {
		t.Fatal("not pulled")
	}
	if m.Flags != MetaMulti || b.Arrival(0) != 7 || m.trace != 9 {
		t.Errorf("is %+v", m)
	}
}

func TestOfAPacketThatWasNotParsedTheVerbsMakeNothingKnown(t *testing.T) {
	for _, v := range verbs {
		b := newTestBatch(t, umem.Options{Frames: 4})
		put(t, b, []byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp)))
		*b.Meta(0) = stale // what another packet left in its place
		b.Meta(0).Flags = 0
		b.FlowHash(0)
		if v.do(b, 0, 20); v.name != "Extend" && b.Meta(0).Flags != 0 {
			t.Errorf("%s: is %+v", v.name, b.Meta(0))
		}
		want := b.Meta(0).flowHash(b.Data(0))
		b.Meta(0).EtherType, b.Meta(0).L3 = 1, 77
		if h := b.FlowHash(0); h != want {
			t.Errorf("%s: hash %#x, want %#x whatever another packet left", v.name, h, want)
		}
	}
}
