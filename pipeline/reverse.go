package pipeline

import "encoding/binary"

// Reverse turns a parsed IP packet round: it exchanges the MAC addresses, the IP
// addresses and, where there are ports, those, also in the metadata. No checksum
// changes by it. It reports false, with nothing changed, if the packet is not IP
// or not parsed. The stage's module Writes.
func (b *Batch) Reverse(i int) bool {
	m, p := &b.meta[i], b.Data(i)
	ip := p[min(int(m.L3), len(p)):]
	switch {
	case m.L3 < 12:
		return false
	case m.Flags&MetaIPv4 != 0 && len(ip) >= 20:
		exchange(ip[12:16], ip[16:20])
	case m.Flags&MetaIPv6 != 0 && len(ip) >= 40:
		exchange(ip[8:24], ip[24:40])
	default:
		return false
	}
	exchange(p[0:6], p[6:12])
	if m.Flags&MetaPorts != 0 {
		m.SrcPort, m.DstPort = m.DstPort, m.SrcPort
		binary.BigEndian.PutUint16(p[m.L4:], m.SrcPort)
		binary.BigEndian.PutUint16(p[m.L4+2:], m.DstPort)
	}
	return true
}

func exchange(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
