package bpf

import (
	"encoding/binary"
	"net/netip"

	"github.com/xdpipe/xdpipe/filter"
)

// headers is what can be read of a packet. It is parsed whole, whatever rules
// there are: unlike the program, which stops where it can.
type headers struct {
	vlan      uint16 // 0: untagged
	etherType uint16 // 0: unreadable
	src, dst  netip.Addr
	protocol  int // -1: unreadable
	ports     bool
	srcPort   uint16
	dstPort   uint16
}

func parseHeaders(b []byte) headers {
	h := headers{protocol: -1}
	at := 12
	read := func(n int) []byte {
		if len(b) < at+n {
			return nil
		}
		at += n
		return b[at-n : at]
	}
	kind := read(2)
	for tag := 0; tag < 2 && kind != nil; tag++ {
		if value := binary.BigEndian.Uint16(kind); value != etherTypeVLAN && value != etherTypeQinQ {
			break
		}
		content := read(2)
		if content != nil && tag == 0 {
			// A tag is readable as a whole or not at all.
			if len(b) >= at+2 {
				h.vlan = binary.BigEndian.Uint16(content) & 4095
			}
		}
		kind = read(2)
	}
	if kind == nil {
		return h
	}
	h.etherType = binary.BigEndian.Uint16(kind)

	later := false // a fragment that is not the first
	switch h.etherType {
	case EtherTypeIPv4:
		start := at
		ip := read(20)
		if ip == nil || ip[0]>>4 != 4 || ip[0]&15 < 5 {
			return h
		}
		h.src, h.dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		h.protocol = int(ip[9])
		later = binary.BigEndian.Uint16(ip[6:])&0x1fff != 0
		at = start + 4*int(ip[0]&15)
	case EtherTypeIPv6:
		ip := read(40)
		if ip == nil || ip[0]>>4 != 6 {
			return h
		}
		h.src, h.dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		next := int(ip[6])
		for walked := 0; !later && isExtension(next); walked++ {
			start := at
			e := read(4)
			if e == nil || walked == 8 {
				return h
			}
			switch next {
			case fragment:
				at = start + 8
				later = binary.BigEndian.Uint16(e[2:])>>3 != 0
			case authentication:
				at = start + 4*(int(e[1])+2)
			default:
				at = start + 8*(int(e[1])+1)
			}
			next = int(e[0])
		}
		h.protocol = next
	}
	if later || !(h.protocol == 6 || h.protocol == 17 || h.protocol == 132) {
		return h
	}
	if ports := read(4); ports != nil {
		h.ports = true
		h.srcPort, h.dstPort = binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])
	}
	return h
}

func isExtension(number int) bool {
	switch number {
	case hopByHop, routing, fragment, authentication, destination:
		return true
	}
	return false
}

// match returns the index of the first rule that matches, or -1.
func (p Policy) match(b []byte) int {
	h := parseHeaders(b)
	for i, rule := range p.Rules {
		if h.matchedBy(rule) {
			return i
		}
	}
	return -1
}

func (h headers) matchedBy(r Rule) bool {
	switch {
	case r.VLAN != 0 && r.VLAN != h.vlan:
	case r.EtherType != 0 && r.EtherType != h.etherType:
	case r.Src.IsValid() && !r.Src.Contains(h.src):
	case r.Dst.IsValid() && !r.Dst.Contains(h.dst):
	case r.Protocol != 0 && int(r.Protocol) != h.protocol:
	case r.hasPorts() && !h.ports:
	case !r.SrcPort.Contains(h.srcPort):
	case !r.DstPort.Contains(h.dstPort):
	case !r.Port.Contains(h.srcPort) && !r.Port.Contains(h.dstPort):
	default:
		return true
	}
	return false
}

// verdict returns what the program returns when the packet's queue has a socket.
// The filter sees the first linear bytes.
func (p Policy) verdict(b []byte, linear int) uint32 {
	i := p.match(b)
	switch {
	case i < 0 && (p.All || p.Filter != "" && filter.MustCompile(p.Filter).Match(b[:linear])):
		return xdpRedirect
	case i < 0:
		return xdpPass
	}
	return map[Action]uint32{Redirect: xdpRedirect, Pass: xdpPass, Drop: xdpDrop}[p.Rules[i].Action]
}
