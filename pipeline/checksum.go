package pipeline

import "encoding/binary"

// SumBytes adds the Internet checksum's 16-bit words of p to sum (RFC 1071). An
// odd last byte counts as the upper half of a word: of several pieces only the last
// may be odd.
func SumBytes(sum uint64, p []byte) uint64 {
	for len(p) >= 8 {
		v := binary.BigEndian.Uint64(p)
		sum += v>>32 + v&0xffffffff
		p = p[8:]
	}
	if len(p) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(p))
		p = p[4:]
	}
	if len(p) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(p))
		p = p[2:]
	}
	if len(p) == 1 {
		sum += uint64(p[0]) << 8
	}
	return sum
}

// FoldSum makes the checksum of a sum, ready to be stored. Over data that holds
// its right checksum it is 0.
func FoldSum(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// UpdateChecksum returns the checksum after a 16-bit word that it covers changed
// (RFC 1624, equation 3). For a change of more, apply it word by word. A UDP
// checksum of 0 is none and stays; where this returns 0 for UDP, 0xffff is stored.
func UpdateChecksum(checksum, from, to uint16) uint16 {
	sum := uint64(^checksum) + uint64(^from) + uint64(to)
	return FoldSum(sum)
}

// VerifyChecksum checks the checksums of a parsed packet, of its IPv4 header and
// of its TCP, UDP, ICMP or ICMPv6, notes the result in the metadata and returns
// it. ChecksumUnknown is for packets whose transport has none to check: fragments
// and packets of several descriptors, other protocols, UDP without a checksum (over
// IPv6 too, where tunnels do so: RFC 6936), malformed ones, and those whose addresses
// another header changes: IPv4 that is source routed, IPv6 with a home address or a
// type of routing header other than 0, 2 and 4 (segment routing).
func (b *Batch) VerifyChecksum(i int) Checksum {
	m := &b.meta[i]
	m.Checksum = m.verify(b.Data(i))
	return m.Checksum
}

func (m *Meta) verify(p []byte) Checksum {
	if m.Flags&MetaMalformed != 0 {
		return ChecksumUnknown
	}
	if m.Flags&MetaIPv4 != 0 {
		header := m.ipv4Header(p)
		if header == nil {
			return ChecksumUnknown
		}
		if FoldSum(SumBytes(0, header)) != 0 {
			return ChecksumBad
		}
	}
	t, ok := m.transport(p)
	switch {
	case !ok:
		return ChecksumUnknown
	case m.Protocol == ProtocolUDP && t.sum[0] == 0 && t.sum[1] == 0:
		return ChecksumUnknown
	case t.data == nil:
		return ChecksumBad
	case FoldSum(SumBytes(t.pseudo, t.data)) != 0:
		return ChecksumBad
	}
	return ChecksumGood
}

// CompleteChecksum computes the checksums of a parsed packet anew: of its IPv4
// header, and of its TCP, UDP, ICMP or ICMPv6 where VerifyChecksum would check it,
// and of UDP that has none. It reports whether all that the packet has are right
// now: not where there is a transport header whose checksum it does not compute.
func (b *Batch) CompleteChecksum(i int) bool {
	return b.meta[i].complete(b.Data(i))
}

func (m *Meta) complete(p []byte) bool {
	m.Checksum = ChecksumUnknown
	if m.Flags&MetaMalformed != 0 || m.Flags&(MetaIPv4|MetaIPv6) == 0 {
		return false
	}
	if m.Flags&MetaIPv4 != 0 {
		header := m.ipv4Header(p)
		if header == nil {
			return false
		}
		put16(header[10:], 0)
		put16(header[10:], FoldSum(SumBytes(0, header)))
	}
	t, ok := m.transport(p)
	if !ok || t.data == nil {
		return m.Flags&MetaL4 == 0
	}
	put16(t.sum, 0)
	sum := FoldSum(SumBytes(t.pseudo, t.data))
	if sum == 0 && m.Protocol == ProtocolUDP {
		sum = 0xffff // 0 means none (RFC 768)
	}
	put16(t.sum, sum)
	m.Checksum = ChecksumGood
	return true
}

// ipv4Header returns the packet's IPv4 header with its options, nil if that does
// not lie in it.
func (m *Meta) ipv4Header(p []byte) []byte {
	l3 := int(m.L3)
	if len(p) < l3+20 {
		return nil
	}
	size := int(p[l3]&15) * 4
	if size < 20 || len(p) < l3+size {
		return nil
	}
	return p[l3 : l3+size]
}

func put16(p []byte, v uint16) { binary.BigEndian.PutUint16(p, v) }
