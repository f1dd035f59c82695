package pipeline

import (
	"encoding/binary"
	"math/bits"
)

// FlowHash returns a hash of the packet's flow: addresses, protocol and ports of
// parsed IP, of everything else the MAC addresses and the ethertype. Both
// directions of a flow have the same hash, and all fragments of a packet, of which
// only the addresses count. It is computed when first asked for and kept in the
// metadata until the packet is parsed again, so that an encapsulated packet keeps
// that of its flow. It is the same on every machine; do not rely on it against an
// adversary, who can choose packets that collide.
func (b *Batch) FlowHash(i int) uint32 {
	m := &b.meta[i]
	if m.Flags&MetaHash == 0 {
		m.hash = m.flowHash(b.Data(i))
		m.Flags |= MetaHash
	}
	return m.hash
}

// Constants that mix well: of the golden ratio and of other irrationals, odd.
const (
	mix1 = 0x9e3779b97f4a7c15
	mix2 = 0xd1b54a32d192ed03
	mix3 = 0x8cb92ba72f3d8dd7
)

func (m *Meta) flowHash(p []byte) uint32 {
	var h uint64
	l3 := int(m.L3)
	switch {
	case m.Flags&MetaIPv4 != 0 && len(p) >= l3+20:
		src, dst := uint64(binary.BigEndian.Uint32(p[l3+12:])), uint64(binary.BigEndian.Uint32(p[l3+16:]))
		h = both(src*mix1, dst*mix1)
	case m.Flags&MetaIPv6 != 0 && len(p) >= l3+40:
		h = both(fold16(p[l3+8:]), fold16(p[l3+24:]))
	case len(p) >= 14:
		dst := uint64(binary.BigEndian.Uint32(p[0:]))<<16 | uint64(binary.BigEndian.Uint16(p[4:]))
		src := uint64(binary.BigEndian.Uint32(p[6:]))<<16 | uint64(binary.BigEndian.Uint16(p[10:]))
		etherType := m.EtherType
		if m.Flags&MetaParsed == 0 { // then it is another packet's
			etherType = binary.BigEndian.Uint16(p[12:])
		}
		return finish(both(src*mix1, dst*mix1) ^ uint64(etherType)*mix2)
	default:
		return 0
	}
	if m.Flags&MetaFragment != 0 {
		// Of later fragments neither the ports are known nor, in IPv6, the protocol.
		return finish(h)
	}
	h ^= uint64(m.Protocol) * mix2
	if m.Flags&MetaPorts != 0 {
		h += both(uint64(m.SrcPort)*mix3, uint64(m.DstPort)*mix3)
	}
	return finish(h)
}

// both joins what two ends have, in either order.
func both(a, b uint64) uint64 {
	a ^= a >> 29
	b ^= b >> 29
	return (a + b) ^ bits.RotateLeft64(a^b, 23)*mix2
}

// fold16 mixes the 16 bytes of an IPv6 address.
func fold16(p []byte) uint64 {
	hi, lo := binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	return (hi*mix1 ^ hi>>31) + bits.RotateLeft64(lo*mix3, 27)
}

func finish(h uint64) uint32 {
	h ^= h >> 32
	h *= mix1
	return uint32(h >> 32)
}
