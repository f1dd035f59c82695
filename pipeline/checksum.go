package pipeline

import "encoding/binary"

// SumBytes adds the Internet checksum's 16-bit words of p to sum (RFC 1071). An
// odd last byte counts as the upper half of a word.
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
// (RFC 1624, equation 3). For a change of more, apply it word by word.
func UpdateChecksum(checksum, from, to uint16) uint16 {
	sum := uint64(^checksum) + uint64(^from) + uint64(to)
	return FoldSum(sum)
}

// l4Checksum returns the offset of the transport header's checksum in the packet
// and the sum of the pseudo header, if it is a transport protocol whose checksum
// can be computed: TCP, UDP, ICMP or ICMPv6, whole and in one frame.
func (m *Meta) l4Checksum(p []byte) (at int, pseudo uint64, ok bool) {
	if m.Flags&MetaL4 == 0 || m.Flags&(MetaFragment|MetaMalformed|MetaMulti) != 0 ||
		int(m.End) > len(p) || m.End < m.L4 {
		return 0, 0, false
	}
	need := 0
	switch m.Protocol {
	case ProtocolTCP:
		at, need = 16, 20
	case ProtocolUDP:
		at, need = 6, 8
	case ProtocolICMP, ProtocolICMPv6:
		at, need = 2, 4
	default:
		return 0, 0, false
	}
	if int(m.End-m.L4) < need {
		return 0, 0, false
	}
	l3 := int(m.L3)
	length := uint64(m.End - m.L4)
	switch {
	case m.Flags&MetaIPv6 != 0:
		pseudo = SumBytes(length+uint64(m.Protocol), p[l3+8:l3+40])
	case m.Protocol == ProtocolICMP: // no pseudo header
	case m.Flags&MetaIPv4 != 0:
		pseudo = SumBytes(length+uint64(m.Protocol), p[l3+12:l3+20])
	default:
		return 0, 0, false
	}
	return int(m.L4) + at, pseudo, true
}

// VerifyChecksum checks the checksums of a parsed packet, of its IPv4 header and
// of its TCP, UDP, ICMP or ICMPv6, notes the result in the metadata and returns
// it: ChecksumUnknown where there is nothing to check, as of fragments, and of UDP
// over IPv4 without a checksum.
func (b *Batch) VerifyChecksum(i int) Checksum {
	m, p := &b.meta[i], b.Data(i)
	m.Checksum = m.verify(p)
	return m.Checksum
}

func (m *Meta) verify(p []byte) Checksum {
	state := ChecksumUnknown
	if m.Flags&MetaIPv4 != 0 && m.Flags&MetaMalformed == 0 {
		l3 := int(m.L3)
		header := int(p[l3]&15) * 4
		if header < 20 || l3+header > len(p) {
			return ChecksumUnknown
		}
		if FoldSum(SumBytes(0, p[l3:l3+header])) != 0 {
			return ChecksumBad
		}
		state = ChecksumGood
	}
	at, pseudo, ok := m.l4Checksum(p)
	if !ok {
		if m.Flags&MetaL4 == 0 {
			return state
		}
		return ChecksumUnknown
	}
	if m.Protocol == ProtocolUDP && p[at] == 0 && p[at+1] == 0 {
		if m.Flags&MetaIPv6 != 0 {
			return ChecksumBad // RFC 8200, 8.1: not optional
		}
		return ChecksumUnknown
	}
	if FoldSum(SumBytes(pseudo, p[m.L4:m.End])) != 0 {
		return ChecksumBad
	}
	return ChecksumGood
}

// CompleteChecksum computes the checksums of a parsed packet anew: of its IPv4
// header, and of its TCP, UDP, ICMP or ICMPv6 unless it is a fragment. It reports
// whether all that the packet has are right now.
func (b *Batch) CompleteChecksum(i int) bool {
	m, p := &b.meta[i], b.Data(i)
	if m.Flags&MetaIPv4 != 0 && m.Flags&MetaMalformed == 0 {
		l3 := int(m.L3)
		header := int(p[l3]&15) * 4
		if header < 20 || l3+header > len(p) {
			return false
		}
		put16(p[l3+10:], 0)
		put16(p[l3+10:], FoldSum(SumBytes(0, p[l3:l3+header])))
	}
	at, pseudo, ok := m.l4Checksum(p)
	if !ok {
		return m.Flags&MetaL4 == 0 && m.Flags&MetaIPv4 != 0
	}
	put16(p[at:], 0)
	sum := FoldSum(SumBytes(pseudo, p[m.L4:m.End]))
	if sum == 0 && m.Protocol == ProtocolUDP {
		sum = 0xffff // 0 means none (RFC 768)
	}
	put16(p[at:], sum)
	m.Checksum = ChecksumGood
	return true
}

func put16(p []byte, v uint16) { binary.BigEndian.PutUint16(p, v) }
