package bpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Extension headers of IPv6 by their numbers.
const (
	hopByHop       = 0
	routing        = 43
	fragment       = 44
	authentication = 51
	noNext         = 59
	destination    = 60
)

// extension is an IPv6 extension header to build: its type, and the content of
// its length field.
type extension struct {
	kind   uint8
	length uint8
	offset uint16 // of a fragment, in units of 8 bytes
}

// packet is a frame to build. Zero fields are left out or given a value that
// does not matter.
type packet struct {
	tags      []uint16 // VLAN ids, outermost first
	tpid      uint16   // of all tags; 802.1Q when 0
	etherType uint16   // derived from src when 0
	src, dst  string
	protocol  uint8

	options    int // IPv4: bytes, a multiple of 4; less than 0 lies about the header
	offset     uint16
	more       bool
	extensions []extension

	srcPort, dstPort uint16
	payload          int
	cut              int // bytes taken off the end
}

func (p packet) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	tpid := p.tpid
	if tpid == 0 {
		tpid = etherTypeVLAN
	}
	for _, tag := range p.tags {
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, 3<<13|tag) // a priority, which must not matter
	}
	etherType := p.etherType
	if etherType == 0 && p.src != "" {
		etherType = EtherTypeIPv6
		if netip.MustParseAddr(p.src).Is4() {
			etherType = EtherTypeIPv4
		}
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	if p.src != "" {
		if netip.MustParseAddr(p.src).Is4() {
			b = p.appendIPv4(b)
		} else {
			b = p.appendIPv6(b)
		}
		b = binary.BigEndian.AppendUint16(b, p.srcPort)
		b = binary.BigEndian.AppendUint16(b, p.dstPort)
	}
	b = append(b, make([]byte, 4+p.payload)...)
	return b[:max(14, len(b)-p.cut)]
}

func (p packet) appendIPv4(b []byte) []byte {
	b = append(b, byte(4<<4|(20+p.options)/4), 0, 0, 0, 0, 0)
	flags := p.offset
	if p.more {
		flags |= 0x2000
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 64, p.protocol, 0, 0)
	b = append(b, netip.MustParseAddr(p.src).AsSlice()...)
	b = append(b, netip.MustParseAddr(p.dst).AsSlice()...)
	return append(b, slices.Repeat([]byte{1}, max(0, p.options))...)
}

func (p packet) appendIPv6(b []byte) []byte {
	next := func(i int) byte {
		if i < len(p.extensions) {
			return p.extensions[i].kind
		}
		return p.protocol
	}
	b = append(b, 6<<4, 0, 0, 0, 0, 0, next(0), 64)
	b = append(b, netip.MustParseAddr(p.src).AsSlice()...)
	b = append(b, netip.MustParseAddr(p.dst).AsSlice()...)
	for i, e := range p.extensions {
		size := 8
		switch e.kind {
		case hopByHop, routing, destination:
			size = 8 * (int(e.length) + 1)
		case authentication:
			size = 4 * (int(e.length) + 2)
		}
		header := make([]byte, size)
		header[0], header[1] = next(i+1), e.length
		if e.kind == fragment {
			binary.BigEndian.PutUint16(header[2:], e.offset<<3|1)
		}
		b = append(b, header...)
	}
	return b
}
