package pipeline

import "encoding/binary"

// A transport is what the checksum of a transport header is made of.
type transport struct {
	sum    []byte // the two bytes of the checksum
	data   []byte // what it covers; nil if UDP says that it is longer than the packet
	pseudo uint64 // sum of the pseudo header
}

// transport finds what the checksum of the packet's transport header is made of,
// if that can be computed: TCP, UDP, ICMP or ICMPv6, whole and in one frame, with
// known addresses.
func (m *Meta) transport(p []byte) (t transport, ok bool) {
	if m.Flags&MetaL4 == 0 || m.Flags&(MetaFragment|MetaMalformed|MetaMulti) != 0 ||
		int(m.End) > len(p) || int(m.End) < int(m.L4)+l4Size(m.Protocol, false) {
		return t, false
	}
	t.data = p[m.L4:m.End]
	ipv6 := m.Flags&MetaIPv6 != 0
	switch m.Protocol {
	case ProtocolTCP:
		t.sum = t.data[16:18]
	case ProtocolUDP:
		t.sum = t.data[6:8]
		// Something may follow it in the IP packet (RFC 9868).
		n := int(binary.BigEndian.Uint16(t.data[4:]))
		if n < 8 || n > len(t.data) {
			t.data = nil
			return t, true
		}
		t.data = t.data[:n]
	case ProtocolICMP:
		t.sum = t.data[2:4]
		return t, !ipv6 // it has no pseudo header
	case ProtocolICMPv6:
		if t.sum = t.data[2:4]; !ipv6 {
			return t, false
		}
	default:
		return t, false
	}
	length := uint64(len(t.data)) + uint64(m.Protocol)
	ip := p[m.L3:m.L4]
	if ipv6 {
		src, dst, ok := endsIPv6(ip, m.Protocol)
		if !ok {
			return t, false
		}
		t.pseudo = SumBytes(SumBytes(length, src), dst)
		return t, true
	}
	if len(ip) < 20 || sourceRouted(ip[20:]) {
		return t, false
	}
	t.pseudo = SumBytes(length, ip[12:20])
	return t, true
}

// sourceRouted reports whether options of IPv4 say that the packet is to go on
// from its destination address to another, or say nothing that can be read.
func sourceRouted(options []byte) bool {
	for len(options) > 0 {
		switch kind := options[0]; {
		case kind == 0: // end of the list
			return false
		case kind == 1: // no operation
			options = options[1:]
			continue
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return true
		// Loose and strict source route (RFC 791): the pointer is within the list
		// until the packet is there.
		case kind == 131 || kind == 137:
			if size := options[1]; size < 3 || options[2] <= size {
				return true
			}
		}
		options = options[options[1]:]
	}
	return false
}

// endsIPv6 returns the addresses that are in the pseudo header of an IPv6 packet
// (RFC 8200, 8.1): the destination is the last of its route. ip is its headers, up
// to the transport header of that protocol.
func endsIPv6(ip []byte, protocol uint8) (src, dst []byte, ok bool) {
	if len(ip) < 40 {
		return nil, nil, false
	}
	src, dst = ip[8:24], ip[24:40]
	next, rest := ip[6], ip[40:]
	for len(rest) >= 8 {
		size := int(rest[1])*8 + 8
		switch next {
		case 44: // fragment
			size = 8
		case 51: // authentication header
			size = int(rest[1])*4 + 8
		}
		if size > len(rest) {
			return nil, nil, false
		}
		header := rest[:size]
		switch {
		case next == 43 && header[3] > 0: // routing header, with segments left
			if dst = lastSegment(header); dst == nil {
				return nil, nil, false
			}
		case next == 60 && hasHomeAddress(header[2:]):
			return nil, nil, false
		}
		next, rest = header[0], rest[size:]
	}
	return src, dst, len(rest) == 0 && next == protocol
}

// lastSegment returns the final destination in a routing header, nil if its type is
// not known.
func lastSegment(header []byte) []byte {
	addresses := (len(header) - 8) / 16
	if addresses == 0 {
		return nil
	}
	switch left := int(header[3]); header[2] {
	case 0, 2: // RFC 2460, RFC 6275
		if left <= addresses {
			return header[8+16*(addresses-1):][:16]
		}
	case 4: // segment routing (RFC 8754): the list is in reverse
		return header[8:24]
	}
	return nil
}

// hasHomeAddress reports whether destination options have a home address (RFC
// 6275), which is in the pseudo header instead of the source, or cannot be read.
func hasHomeAddress(options []byte) bool {
	for len(options) > 0 {
		switch {
		case options[0] == 0: // one byte of padding
			options = options[1:]
			continue
		case options[0] == 201 || len(options) < 2 || int(options[1])+2 > len(options):
			return true
		}
		options = options[int(options[1])+2:]
	}
	return false
}
