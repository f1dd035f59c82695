package pipeline

import "encoding/binary"

// MetaFlags say which fields of a Meta are known and what the packet is.
type MetaFlags uint16

// The flags of a Meta.
const (
	// MetaParsed: Parse has run on the packet as it is.
	MetaParsed MetaFlags = 1 << iota
	// MetaIPv4 and MetaIPv6: L3 is the offset of such a header.
	MetaIPv4
	MetaIPv6
	// MetaL4: L4 is the offset of a transport header and Protocol its kind.
	MetaL4
	// MetaPorts: SrcPort and DstPort are those of TCP, UDP or SCTP.
	MetaPorts
	// MetaFragment: the packet is a fragment; only the first has MetaL4.
	MetaFragment
	// MetaVLAN: there is at least one VLAN tag.
	MetaVLAN
	// MetaARP: the packet is ARP.
	MetaARP
	// MetaMalformed: a header contradicts itself or ends beyond the packet;
	// what was read before it stands.
	MetaMalformed
	// MetaMulti: the packet has several descriptors; see Batch.Segments. Only the
	// first is parsed, so that lengths beyond it are not MetaMalformed.
	MetaMulti
	// MetaHash: the flow hash was computed; see Batch.FlowHash.
	MetaHash
)

// MetaHeaders are the flags that say what headers the packet has.
const MetaHeaders = MetaMulti - 1

// A Checksum says what is known of a packet's checksums: those of its IPv4
// header and of its TCP, UDP, ICMP or ICMPv6.
type Checksum uint8

// The states of checksums.
const (
	ChecksumUnknown Checksum = iota // nobody looked, or there is none to look at
	ChecksumGood                    // checked, or just computed
	ChecksumBad                     // checked, and wrong
	// ChecksumPartial: it covers the pseudo header alone and is to be completed by
	// whoever transmits. No port reports it today; see Batch.CompleteChecksum.
	ChecksumPartial
)

// EtherTypes and protocol numbers that Parse tells apart (IEEE 802 and IANA).
const (
	EtherTypeIPv4  = 0x0800
	EtherTypeARP   = 0x0806
	EtherTypeVLAN  = 0x8100 // 802.1Q
	EtherTypeIPv6  = 0x86dd
	EtherTypeQinQ  = 0x88a8 // 802.1ad
	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
	ProtocolSCTP   = 132
)

// Meta is what is known of a packet besides its bytes. Offsets are in bytes from
// the packet's first, which is the first of the Ethernet header. Flags
// are always valid, the others once the packet was parsed. A stage that
// changes headers corrects what it changes, or calls Parse again; Push, Pull,
// Extend and Trim shift the offsets by themselves.
type Meta struct {
	arrival int64 // see Batch.Arrival; 0 for the round that the batch is in

	// The order serves Append and Parse, which write neighbours at once.
	Flags     MetaFlags
	trace     uint16   // what follows it, counted from 1
	VLANs     uint8    // number of VLAN tags, 0 to 2
	Checksum  Checksum // of the IPv4 and transport headers
	Protocol  uint8    // IP protocol of the transport header, after IPv6 extension headers
	EtherType uint16   // after all VLAN tags
	L3, L4    uint16   // offsets of the network and transport headers; L4 only with MetaL4
	End       uint16   // offset where the IP packet ends; Ethernet padding may follow
	DstPort   uint16
	SrcPort   uint16
	VLAN      [2]uint16 // tag control information, outermost first
	hash      uint32    // with MetaHash
}

// maxExtensionHeaders is how many IPv6 extension headers Parse walks; more is
// MetaMalformed. Hosts send one or two.
const maxExtensionHeaders = 8

// Parse reads the headers of all packets into their metadata.
func (b *Batch) Parse() {
	descs, metas := b.desc[:b.n], b.meta[:b.n]
	for i := range descs {
		p, m := b.mem.Packet(descs[i].Addr, descs[i].Len), &metas[i]
		// What most packets are comes first, and without a call: untagged, IPv4
		// without options or IPv6 without extension headers, whole, TCP or UDP.
		if len(p) >= 14+20+8 {
			h := (*[42]byte)(p) // one length check instead of one for each field
			// Wide loads: ethertype, version and length in one, fragment and
			// protocol in the other.
			start, middle := binary.BigEndian.Uint64(h[12:20]), binary.BigEndian.Uint32(h[20:24])
			switch start >> 48 {
			case EtherTypeIPv4:
				total, protocol := int(start>>16&0xffff), uint8(middle)
				// Version 4 with a header of 20 bytes; not a fragment; long enough.
				if start>>40&0xff == 0x45 && middle&0x3fff_0000 == 0 && total <= len(p)-14 &&
					(protocol == ProtocolUDP && total >= 28 || protocol == ProtocolTCP && total >= 40) {
					m.common(MetaParsed|MetaL4|MetaPorts|MetaIPv4, EtherTypeIPv4|14<<16|34<<32|uint64(total+14)<<48, binary.BigEndian.Uint32(h[34:38]), protocol)
					continue
				}
			case EtherTypeIPv6:
				payload, protocol := int(start&0xffff), uint8(middle>>24)
				if len(p) >= 14+40+8 && start>>44&0xf == 6 && payload <= len(p)-54 &&
					(protocol == ProtocolUDP && payload >= 8 || protocol == ProtocolTCP && payload >= 20) {
					m.common(MetaParsed|MetaL4|MetaPorts|MetaIPv6, EtherTypeIPv6|14<<16|54<<32|uint64(payload+54)<<48, binary.BigEndian.Uint32(p[54:58]), protocol)
					continue
				}
			}
		}
		m.Parse(p)
	}
	if b.multi {
		b.markMulti()
	}
}

// markMulti sets the flag that the fast path took from packets whose first
// descriptor looked whole.
func (b *Batch) markMulti() {
	for i := range b.n {
		if b.desc[i].Options&contd != 0 {
			b.meta[i].Flags |= MetaMulti
		}
	}
}

// common sets what the common packets share. offsets are EtherType, L3, L4 and End
// in one word, from the lowest bits on; ports both ports, the source's above. The
// compiler joins stores of pieces of one word to neighbouring fields. A struct
// literal would be built on the stack and copied in wider pieces than it was
// written in, which stalls the CPU for longer than all the rest takes.
func (m *Meta) common(flags MetaFlags, offsets uint64, ports uint32, protocol uint8) {
	m.Flags = flags
	m.EtherType, m.L3, m.L4, m.End = uint16(offsets), uint16(offsets>>16), uint16(offsets>>32), uint16(offsets>>48)
	m.DstPort, m.SrcPort = uint16(ports), uint16(ports>>16)
	m.VLAN = [2]uint16{}
	m.VLANs, m.Checksum = 0, ChecksumUnknown
	m.Protocol = protocol
}

// Parse reads the headers of the packet into m, header by header. It never reads
// beyond data and accepts anything: what cannot be right sets MetaMalformed. What
// m knows of the packet's way here it keeps.
func (m *Meta) Parse(data []byte) {
	multi := m.Flags & MetaMulti
	*m = Meta{Flags: MetaParsed | multi, arrival: m.arrival, trace: m.trace, End: uint16(min(len(data), 0xffff))}
	if len(data) < 14 {
		m.Flags |= MetaMalformed
		return
	}
	etherType := binary.BigEndian.Uint16(data[12:14])
	at := 14
	for etherType == EtherTypeVLAN || etherType == EtherTypeQinQ {
		if m.VLANs == 2 {
			break // deeper tags are payload to us, as to the NICs
		}
		if len(data) < at+4 {
			m.Flags |= MetaMalformed
			return
		}
		m.VLAN[m.VLANs] = binary.BigEndian.Uint16(data[at:])
		m.VLANs++
		m.Flags |= MetaVLAN
		etherType = binary.BigEndian.Uint16(data[at+2:])
		at += 4
	}
	m.EtherType = etherType
	m.L3 = uint16(at)
	switch etherType {
	case EtherTypeIPv4:
		m.parseIPv4(data, at)
	case EtherTypeIPv6:
		m.parseIPv6(data, at)
	case EtherTypeARP:
		m.Flags |= MetaARP
	}
}

func (m *Meta) parseIPv4(data []byte, at int) {
	ip := data[at:]
	if len(ip) < 20 || ip[0]>>4 != 4 {
		m.Flags |= MetaMalformed
		return
	}
	m.Flags |= MetaIPv4
	header := int(ip[0]&15) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	// Ethernet pads short packets, so that data may be longer than total.
	if m.Flags&MetaMulti != 0 {
		total = min(total, len(ip)) // the rest is in other frames
	}
	if header < 20 || total < header || total > len(ip) {
		m.Flags |= MetaMalformed
		return
	}
	m.End = uint16(min(at+total, 0xffff))
	m.Protocol = ip[9]
	if frag := binary.BigEndian.Uint16(ip[6:]); frag&0x3fff != 0 { // more fragments, or an offset
		m.Flags |= MetaFragment
		if frag&0x1fff != 0 {
			return
		}
	}
	m.parseL4(data[:at+total], at+header)
}

func (m *Meta) parseIPv6(data []byte, at int) {
	ip := data[at:]
	if len(ip) < 40 || ip[0]>>4 != 6 {
		m.Flags |= MetaMalformed
		return
	}
	m.Flags |= MetaIPv6
	end := 40 + int(binary.BigEndian.Uint16(ip[4:]))
	if m.Flags&MetaMulti != 0 {
		end = min(end, len(ip))
	}
	if end > len(ip) {
		m.Flags |= MetaMalformed
		return
	}
	m.End = uint16(min(at+end, 0xffff))
	ip = ip[:end]
	next, off := ip[6], 40
	for range maxExtensionHeaders {
		switch next {
		case 0, 43, 60, 135, 139, 140: // hop-by-hop, routing, destination options, mobility, HIP, shim6
			if off+8 > len(ip) {
				m.Flags |= MetaMalformed
				return
			}
			next, off = ip[off], off+int(ip[off+1])*8+8
		case 51: // authentication header: its length counts 4-byte words less two
			if off+8 > len(ip) {
				m.Flags |= MetaMalformed
				return
			}
			next, off = ip[off], off+int(ip[off+1])*4+8
		case 44: // fragment
			if off+8 > len(ip) {
				m.Flags |= MetaMalformed
				return
			}
			frag := binary.BigEndian.Uint16(ip[off+2:])
			next, off = ip[off], off+8
			if frag&0xfff9 != 0 { // an offset, or more fragments; else it is atomic (RFC 6946)
				m.Flags |= MetaFragment
			}
			if frag&0xfff8 != 0 {
				m.Protocol = next
				return
			}
		default:
			m.Protocol = next
			switch {
			case off > len(ip):
				m.Flags |= MetaMalformed
			case next != 59: // no next header
				m.parseL4(data[:at+end], at+off)
			}
			return
		}
	}
	m.Flags |= MetaMalformed
}

// parseL4 reads the transport header at the offset; data ends with the IP
// packet.
func (m *Meta) parseL4(data []byte, at int) {
	if at > len(data) {
		m.Flags |= MetaMalformed
		return
	}
	l4 := data[at:]
	if len(l4) < l4Size(m.Protocol, m.Flags&MetaFragment != 0) {
		m.Flags |= MetaMalformed
		return
	}
	m.L4 = uint16(at)
	m.Flags |= MetaL4
	switch m.Protocol {
	case ProtocolTCP, ProtocolUDP, ProtocolSCTP:
		m.SrcPort = binary.BigEndian.Uint16(l4)
		m.DstPort = binary.BigEndian.Uint16(l4[2:])
		m.Flags |= MetaPorts
	}
}

// l4Size is how much of a transport header there must be to call it one. A first
// fragment may be cut anywhere; the ports are enough.
func l4Size(protocol uint8, fragment bool) int {
	size := 0
	switch protocol {
	case ProtocolTCP:
		size = 20
	case ProtocolUDP, ProtocolICMP, ProtocolICMPv6:
		size = 8
	case ProtocolSCTP:
		size = 12
	}
	if fragment {
		size = min(size, 4)
	}
	return size
}
