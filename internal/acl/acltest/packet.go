package acltest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A Packet is a frame to build. Zero fields are left out.
type Packet struct {
	Tags             []uint16 // tag control information, outermost first
	EtherType        uint16   // derived from Src when 0
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16
	More             bool
	Offset           uint16 // of a fragment, in units of 8 bytes
	Destination      bool   // IPv6: an extension header, behind that of a fragment
	Cut              int    // bytes taken off the end
}

// Bytes builds the frame.
func (p Packet) Bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for _, tag := range p.Tags {
		b = binary.BigEndian.AppendUint16(b, pipeline.EtherTypeVLAN)
		b = binary.BigEndian.AppendUint16(b, tag)
	}
	etherType := p.EtherType
	if etherType == 0 {
		etherType = pipeline.EtherTypeIPv4
		if p.Src.Is6() {
			etherType = pipeline.EtherTypeIPv6
		}
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	payload := binary.BigEndian.AppendUint16(nil, p.SrcPort)
	payload = binary.BigEndian.AppendUint16(payload, p.DstPort)
	payload = append(payload, make([]byte, 28)...)
	switch {
	case !p.Src.IsValid():
		b = append(b, payload...)
	case p.Src.Is4():
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
		b = append(b, 0, 0)
		frag := p.Offset
		if p.More {
			frag |= 0x2000
		}
		b = binary.BigEndian.AppendUint16(b, frag)
		b = append(b, 64, p.Protocol, 0, 0)
		b = append(b, p.Src.AsSlice()...)
		b = append(b, p.Dst.AsSlice()...)
		b = append(b, payload...)
	default:
		next := p.Protocol
		if p.Destination {
			payload = slices.Concat([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload)
			next = 60
		}
		if p.More || p.Offset != 0 {
			frag := p.Offset << 3
			if p.More {
				frag |= 1
			}
			payload = slices.Concat([]byte{next, 0, byte(frag >> 8), byte(frag), 0, 0, 0, 1}, payload)
			next = 44
		}
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
		b = append(b, next, 64)
		b = append(b, p.Src.AsSlice()...)
		b = append(b, p.Dst.AsSlice()...)
		b = append(b, payload...)
	}
	return b[:max(1, len(b)-p.Cut)]
}
