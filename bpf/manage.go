package bpf

import (
	"encoding/binary"

	"github.com/xdpipe/xdpipe/filter"
)

// pattern stands for the frames of one kind of management traffic: headers of
// which the fields that make it that kind are known, and no others.
type pattern struct{ filter.Pattern }

// bytes appends what is known.
func (p *pattern) bytes(known ...byte) {
	for _, b := range known {
		p.Bytes, p.Known = append(p.Bytes, b), append(p.Known, 0xff)
	}
}

// number appends a 16-bit field.
func (p *pattern) number(n uint16) { p.bytes(binary.BigEndian.AppendUint16(nil, n)...) }

// partly appends a byte of which some bits are known.
func (p *pattern) partly(b, known byte) {
	p.Bytes, p.Known = append(p.Bytes, b), append(p.Known, known)
}

// unknown appends n bytes that may be anything.
func (p *pattern) unknown(n int) {
	p.Bytes, p.Known = append(p.Bytes, make([]byte, n)...), append(p.Known, make([]byte, n)...)
}

// network is an untagged frame to and from whatever address, up to the transport
// header: IP without options or extension headers, not a fragment.
func network(etherType uint16, protocol uint8) (p pattern) {
	p.unknown(12)
	p.number(etherType)
	if etherType == EtherTypeIPv4 {
		p.bytes(0x45)
		p.unknown(5)      // type of service, length, id
		p.partly(0, 0x1f) // flags, and the offset
		p.bytes(0)
		p.unknown(1) // time to live
		p.bytes(protocol)
		p.unknown(10) // checksum, addresses
		return p
	}
	p.partly(0x60, 0xf0)
	p.unknown(5) // class, label, length
	p.bytes(protocol)
	p.unknown(33) // hop limit, addresses
	return p
}

// between is a packet between two ports.
func between(etherType uint16, protocol uint8, src, dst uint16) pattern {
	p := network(etherType, protocol)
	p.number(src)
	p.number(dst)
	return p
}

// message is an ICMP or ICMPv6 message of a type.
func message(etherType uint16, protocol, kind uint8) pattern {
	p := network(etherType, protocol)
	p.bytes(kind)
	return p
}

// The messages beside those of management that machines cannot do without (IANA:
// ICMP and ICMPv6 parameters).
var messages = []struct {
	what      string
	etherType uint16
	protocol  uint8
	kinds     []uint8
}{
	{"ICMP errors", EtherTypeIPv4, ProtocolICMP, []uint8{3, 11, 12}},
	{"ICMPv6 errors", EtherTypeIPv6, ProtocolICMPv6, []uint8{1, 2, 3, 4}},
	{"IPv6 neighbour discovery", EtherTypeIPv6, ProtocolICMPv6, []uint8{133, 134, 135, 136, 137}},
}

// sampleEvery is the distance of the ports tried of a range that connections take
// theirs from.
const sampleEvery = 500

// samples returns ports of a range: all of a narrow one.
func (r PortRange) samples() (ports []uint16, narrow bool) {
	step := sampleEvery
	if narrow = r.To-r.From < sampleEvery; narrow {
		step = 1
	}
	for port := int(r.From); port <= int(r.To); port += step {
		ports = append(ports, uint16(port))
	}
	return ports, narrow
}

// threatenedBy returns the management traffic that the filter may take, or "".
func threatenedBy(f *filter.Filter) string {
	arp := pattern{}
	arp.unknown(12)
	arp.number(EtherTypeARP)
	if f.MayMatch(arp.Pattern) {
		return "ARP"
	}
	for _, m := range messages {
		for _, kind := range m.kinds {
			if f.MayMatch(message(m.etherType, m.protocol, kind).Pattern) {
				return m.what
			}
		}
	}
	for _, flow := range management {
		for _, etherType := range []uint16{EtherTypeIPv4, EtherTypeIPv6} {
			if flow.network != 0 && flow.network != etherType {
				continue
			}
			srcs, narrowSrc := flow.src.samples()
			dsts, narrowDst := flow.dst.samples()
			enough := 1
			if !narrowSrc || !narrowDst {
				enough = 2 // one port that a connection may have by chance does not count
			}
			for _, src := range srcs {
				for _, dst := range dsts {
					if f.MayMatch(between(etherType, flow.protocol, src, dst).Pattern) {
						enough--
					}
					if enough == 0 {
						return flow.what
					}
				}
			}
		}
	}
	return ""
}
