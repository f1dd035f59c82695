package stages

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/xdpipe/xdpipe/internal/ranges"
	"github.com/xdpipe/xdpipe/pipeline"
)

// A genTemplate is what all packets of a generator have in common: one packet of the
// greatest length. What differs between them is zero in it, and is
// written into each copy: lengths, addresses, ports, stamp and checksums.
type genTemplate struct {
	bytes    []byte
	ipv6     bool
	protocol uint8
	l3, l4   int // offsets of the headers
	payload  int // and of what follows them
	checksum int // and of the transport header's
	stamp    int // bytes, 0 is none
}

// A genSize is a length of packets and the sums of what they have in common:
// everything but the flow and the stamp.
type genSize struct {
	n         int // bytes without FCS
	ip, l4    uint16
	ipSum     uint64
	l4Sum     uint64
	inCapture []byte // the packet itself, if it is one of a capture
}

// genHeader is what the options say of the headers.
type genHeader struct {
	srcMAC, dstMAC []byte
	vlan           int // 0: untagged
	src, dst       ranges.Addresses
	protocol       string
	tcpFlags       uint8
	ttl, dscp      int
}

var genProtocols = map[string]struct {
	number   uint8 // over IPv4, and but for ICMP over IPv6
	length   int
	checksum int
}{
	"udp":  {pipeline.ProtocolUDP, 8, 6},
	"tcp":  {pipeline.ProtocolTCP, 20, 16},
	"icmp": {pipeline.ProtocolICMP, 8, 2},
}

// newGenTemplate returns the headers alone.
func newGenTemplate(h genHeader) *genTemplate {
	t := &genTemplate{ipv6: h.src.First.Is6()}
	be := binary.BigEndian
	p := append(append([]byte(nil), h.dstMAC...), h.srcMAC...)
	if h.vlan > 0 {
		p = be.AppendUint16(p, pipeline.EtherTypeVLAN)
		p = be.AppendUint16(p, uint16(h.vlan))
	}
	protocol := genProtocols[h.protocol]
	t.protocol = protocol.number
	tos := uint8(h.dscp << 2)
	if t.ipv6 {
		if t.protocol == pipeline.ProtocolICMP {
			t.protocol = pipeline.ProtocolICMPv6
		}
		p = be.AppendUint16(p, pipeline.EtherTypeIPv6)
		t.l3 = len(p)
		p = append(p, 0x60|tos>>4, tos<<4, 0, 0, 0, 0, t.protocol, uint8(h.ttl))
		src, dst := h.src.First.As16(), h.dst.First.As16()
		p = append(p, src[:8]...)
		p = append(p, make([]byte, 8)...)
		p = append(p, dst[:8]...)
		p = append(p, make([]byte, 8)...)
	} else {
		p = be.AppendUint16(p, pipeline.EtherTypeIPv4)
		t.l3 = len(p)
		p = append(p, 0x45, tos, 0, 0, 0, 0, 0x40, 0, uint8(h.ttl), t.protocol) // don't fragment
		p = append(p, make([]byte, 10)...)
	}
	t.l4 = len(p)
	p = append(p, make([]byte, protocol.length)...)
	switch l4 := p[t.l4:]; t.protocol {
	case pipeline.ProtocolTCP:
		l4[12] = 5 << 4 // words of the header
		l4[13] = h.tcpFlags
		be.PutUint16(l4[14:], 0xffff) // window
	case pipeline.ProtocolICMP:
		l4[0] = 8 // echo request
	case pipeline.ProtocolICMPv6:
		l4[0] = 128
	}
	t.payload = len(p)
	t.checksum = t.l4 + protocol.checksum
	t.bytes = p
	return t
}

// fill adds a payload: the constant part of the stamp, if there is to be one of
// that many bytes, and the pattern, up to the packet's length in bytes.
func (t *genTemplate) fill(length, stamp int, id uint16, pattern string) {
	t.stamp = stamp
	body := make([]byte, length-t.payload)
	random := rand.New(rand.NewPCG(1, 2)) // the same ones in every run
	for i := range body {
		switch pattern {
		case "count":
			body[i] = byte(i)
		case "random":
			body[i] = byte(random.Uint32())
		}
	}
	if stamp > 0 {
		clear(body[:stamp])
		copy(body, stampMagic)
		body[3] = stampShort
		if stamp == stampLongSize {
			body[3] = stampLong
		}
		binary.BigEndian.PutUint16(body[4:], id)
	}
	t.bytes = append(t.bytes, body...)
	if t.protocol == pipeline.ProtocolICMP || t.protocol == pipeline.ProtocolICMPv6 {
		binary.BigEndian.PutUint16(t.bytes[t.l4+4:], id) // the echo's identifier
	}
}

// size returns what packets of that length, at most the template's, have in
// common.
func (t *genTemplate) size(n int) genSize {
	z := genSize{n: n, ip: uint16(n - t.l3), l4: uint16(n - t.l4)}
	z.l4Sum = pipeline.SumBytes(0, t.bytes[t.l4:n])
	if !t.ipv6 {
		z.ipSum = pipeline.SumBytes(uint64(z.ip), t.bytes[t.l3:t.l4])
	}
	if t.protocol == pipeline.ProtocolUDP {
		z.l4Sum += uint64(z.l4)
	}
	if t.protocol != pipeline.ProtocolICMP { // the pseudo header
		z.l4Sum += uint64(z.l4) + uint64(t.protocol)
		if t.ipv6 {
			z.l4Sum = pipeline.SumBytes(z.l4Sum, t.bytes[t.l3+8:t.l3+40])
		}
	}
	return z
}

// write writes what differs into p, a copy of the template.
func (t *genTemplate) write(p []byte, z *genSize, f *genFlows, id uint16, seq uint64, now int64) {
	be := binary.BigEndian
	ip, l4 := p[t.l3:], p[t.l4:]
	src, dst, ports := f.src+f.at[0], f.dst+f.at[1], (f.srcPort+f.at[2])<<16|(f.dstPort+f.at[3])
	sum := z.l4Sum
	if t.ipv6 {
		_ = ip[39]
		be.PutUint16(ip[4:], z.l4)
		be.PutUint64(ip[16:], src)
		be.PutUint64(ip[32:], dst)
		sum += src>>32 + src&0xffffffff + dst>>32 + dst&0xffffffff
	} else {
		_ = ip[19]
		be.PutUint16(ip[2:], z.ip)
		be.PutUint16(ip[10:], pipeline.FoldSum(z.ipSum+src+dst))
		be.PutUint64(ip[12:], src<<32|dst)
		if t.protocol != pipeline.ProtocolICMP {
			sum += src + dst
		}
	}
	switch t.protocol {
	case pipeline.ProtocolUDP:
		_ = l4[5]
		be.PutUint32(l4, uint32(ports))
		be.PutUint16(l4[4:], z.l4)
		sum += ports
	case pipeline.ProtocolTCP:
		be.PutUint64(l4, ports<<32|seq&0xffffffff)
		sum += ports + seq&0xffffffff
	default:
		be.PutUint16(l4[6:], uint16(seq))
		sum += seq & 0xffff
	}
	switch s := p[t.payload:]; t.stamp {
	case stampShortSize:
		_ = s[17]
		at := uint64(now)
		be.PutUint64(s[4:], uint64(id)<<48|seq&low48)
		be.PutUint16(s[12:], uint16(at>>32))
		be.PutUint32(s[14:], uint32(at))
		sum += seq>>32&0xffff + seq&0xffffffff + at>>32&0xffff + at&0xffffffff
	case stampLongSize:
		_ = s[35]
		at := uint64(now)
		be.PutUint64(s[8:], seq)
		be.PutUint64(s[16:], at)
		be.PutUint64(s[24:], f.round)
		be.PutUint32(s[32:], uint32(f.index))
		sum += seq>>32 + seq&0xffffffff + at>>32 + at&0xffffffff + f.round>>32 + f.round&0xffffffff + f.index
	}
	checksum := pipeline.FoldSum(sum)
	if checksum == 0 && t.protocol == pipeline.ProtocolUDP {
		checksum = 0xffff // 0 means none (RFC 768)
	}
	be.PutUint16(p[t.checksum:], checksum)
}

// genFlows goes through the flows, one packet each in turn, so that nothing needs
// to be kept for each.
type genFlows struct {
	src, dst         uint64 // first address, its lower 64 bits
	srcPort, dstPort uint64 // first port
	n                [4]uint64
	at               [4]uint64 // of the current flow: src, dst, srcPort, dstPort; the first changes fastest
	flows            uint64    // those that are used, of all combinations
	index            uint64    // of the current flow
	round            uint64    // packets that it has had: its sequence number
}

// advance goes to the next flow.
func (f *genFlows) advance() {
	if f.index++; f.index == f.flows {
		f.index, f.at = 0, [4]uint64{}
		f.round++
		return
	}
	for i := range f.at {
		if f.at[i]++; f.at[i] < f.n[i] {
			return
		}
		f.at[i] = 0
	}
}

// seek goes to the flow of the packet with the sequence number.
func (f *genFlows) seek(seq uint64) {
	f.index, f.round = seq%f.flows, seq/f.flows
	rest := f.index
	for i := range f.at {
		f.at[i], rest = rest%f.n[i], rest/f.n[i]
	}
}
