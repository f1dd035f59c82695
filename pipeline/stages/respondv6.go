package stages

import (
	"encoding/binary"

	"github.com/xdpipe/xdpipe/pipeline"
)

// ICMPv6 types that Respond answers and sends (RFC 4443, 4861).
const (
	icmpv6EchoRequest           = 128
	icmpv6EchoReply             = 129
	icmpv6NeighborSolicitation  = 135
	icmpv6NeighborAdvertisement = 136
)

// icmpv6 answers an echo request of RFC 4443, 4.1, or a neighbour solicitation.
func (s *Respond) icmpv6(b *pipeline.Batch, i int, m *pipeline.Meta) {
	p := b.Data(i)
	ip := p[m.L3:]
	known := m.Flags&(pipeline.MetaL4|pipeline.MetaFragment) == pipeline.MetaL4
	if known && p[m.L4] == icmpv6NeighborSolicitation {
		if s.ND {
			s.solicitation(b, i, m)
		}
		return
	}
	isICMPv6 := m.Protocol == pipeline.ProtocolICMPv6 || m.Flags&pipeline.MetaMalformed != 0 && ip[6] == pipeline.ProtocolICMPv6
	if !s.Echo || !isICMPv6 || known && p[m.L4] != icmpv6EchoRequest || !s.ours.has6(ip[24:40]) {
		return
	}
	source := [16]byte(ip[8:24])
	ok := unicast6(source[:]) && !isLoopback6(source[:]) && source != [16]byte(ip[24:40])
	if !s.echoable(b, i, m, 40, ok) {
		return
	}
	l4 := p[m.L4:m.End]
	copy(ip[8:24], ip[24:40])
	copy(ip[24:40], source[:])
	ip[7] = 64
	l4[0] = icmpv6EchoReply
	binary.BigEndian.PutUint16(l4[2:], pipeline.UpdateChecksum(binary.BigEndian.Uint16(l4[2:]), icmpv6EchoRequest<<8, icmpv6EchoReply<<8))
	s.answer(b, i, answerICMPv6)
}

func isLoopback6(a []byte) bool {
	return binary.BigEndian.Uint64(a) == 0 && binary.BigEndian.Uint64(a[8:]) == 1
}

// advertisement is the length of the ICMPv6 message of an answer: 24 bytes and
// the target's link-layer address as an option of 8.
const advertisement = 24 + 8

// allNodes is the multicast address of all nodes of the link, ff02::1.
var allNodes = [16]byte{0xff, 0x02, 15: 1}

// Flags of a neighbour advertisement (RFC 4861, 4.4).
const (
	advertiseRouter    = 0x80
	advertiseSolicited = 0x40
	advertiseOverride  = 0x20
)

// solicitation answers a neighbour solicitation: validated as RFC 4861, 7.1.1,
// wants, answered as in 7.2.4.
func (s *Respond) solicitation(b *pipeline.Batch, i int, m *pipeline.Meta) {
	p := b.Data(i)
	ip, message := p[m.L3:], p[m.L4:m.End]
	if len(message) < 24 || !s.ours.has6(message[8:24]) {
		return
	}
	target, source, destination := [16]byte(message[8:24]), [16]byte(ip[8:24]), [16]byte(ip[24:40])
	probe := source == [16]byte{} // for a duplicate of the address
	sourceMAC, hasMAC, optionsOK := sourceLinkLayer(message[24:])
	if !hasMAC {
		sourceMAC = [6]byte(p[6:12])
	}
	from, macOK := s.macFor(p)
	why := 0
	switch {
	case m.Flags&pipeline.MetaMulti != 0:
		why = ignoreMulti
	case m.L4-m.L3 != 40:
		why = ignoreOptions // also an atomic fragment (RFC 6980)
	case ip[7] != 255:
		why = ignoreHopLimit
	case m.Flags&pipeline.MetaMalformed != 0, message[1] != 0, !optionsOK, probe && hasMAC:
		why = ignoreMalformed
	case destination != solicitedNode(target) && (probe || destination != allNodes && !s.ours.has6(destination[:])):
		why = ignoreDestination
	case !macOK:
		why = ignoreMAC
	case !probe && (!unicast6(source[:]) || isLoopback6(source[:]) || source == target || !unicastMAC(sourceMAC[:])):
		why = ignoreSource
	case b.VerifyChecksum(i) != pipeline.ChecksumGood:
		why = ignoreChecksum
	default:
		s.advertise(b, i, m, target, source, sourceMAC, from)
		return
	}
	s.ignore(why)
}

// advertise makes the packet, whose headers it keeps in place, the answer to a
// solicitation; to all nodes if the one that asked has no address yet.
func (s *Respond) advertise(b *pipeline.Batch, i int, m *pipeline.Meta, target, to [16]byte, toMAC, from [6]byte) {
	flags := byte(advertiseSolicited | advertiseOverride)
	if s.Router {
		flags |= advertiseRouter
	}
	if to == [16]byte{} {
		flags &^= advertiseSolicited
		to, toMAC = allNodes, [6]byte{0x33, 0x33, 0, 0, 0, 1}
	}
	end := int(m.L4) + advertisement
	switch n := end - len(b.Data(i)); {
	case n > 0 && !b.Extend(i, n), n < 0 && !b.Trim(i, -n):
		return
	}
	m.End = uint16(end)
	p := b.Data(i)
	copy(p, toMAC[:])
	copy(p[6:], from[:])
	ip, message := p[m.L3:], p[m.L4:]
	binary.BigEndian.PutUint32(ip, 6<<28) // version; no traffic class, no flow label
	binary.BigEndian.PutUint16(ip[4:], advertisement)
	copy(ip[8:], target[:])
	copy(ip[24:], to[:])
	clear(message)
	message[0], message[4] = icmpv6NeighborAdvertisement, flags
	copy(message[8:], target[:])
	message[24], message[25] = 2, 1 // target link-layer address, of 8 bytes
	copy(message[26:], from[:])
	m.Flags &^= pipeline.MetaHash
	b.CompleteChecksum(i)
	s.answer(b, i, answerND)
}

// solicitedNode returns the multicast address that the hosts with the address
// listen to (RFC 4291, 2.7.1).
func solicitedNode(a [16]byte) [16]byte {
	n := [16]byte{0xff, 0x02, 11: 1, 12: 0xff}
	copy(n[13:], a[13:])
	return n
}

// sourceLinkLayer looks for the sender's link-layer address among the options of
// a solicitation. It is not ok if they do not add up (RFC 4861, 4.6).
func sourceLinkLayer(options []byte) (mac [6]byte, found, ok bool) {
	for len(options) > 0 {
		if len(options) < 8 || options[1] == 0 || len(options) < int(options[1])*8 {
			return mac, found, false
		}
		if options[0] == 1 {
			mac, found = [6]byte(options[2:8]), true
		}
		options = options[int(options[1])*8:]
	}
	return mac, found, true
}
